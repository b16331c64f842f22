#!/usr/bin/env bash
# Submit a search to a cluster and follow it; the search goes on if this terminal is closed.
#   ADDRESS=http://10.0.0.10:8265 cluster/submit.sh search_spaces/shapes.yaml [--resume]
set -euo pipefail
exec .venv/bin/ray job submit --address "${ADDRESS:-http://127.0.0.1:8265}" -- \
  bash -c 'cd ~/raystt && exec .venv/bin/raystt search "$@"' raystt "$@"
