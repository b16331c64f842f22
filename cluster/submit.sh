#!/usr/bin/env bash
# Submit a search to a Ray cluster and follow it; it goes on if this terminal is closed. The job runs
# this directory as it is, with your edits: the nodes need the dependencies alone.
#
#   cluster/submit.sh [RAY OPTIONS --] SPACE.yaml [RAYSTT OPTIONS]
#   cluster/submit.sh search_spaces/cvss.yaml --infra cluster/infra/2x8.yaml
#   cluster/submit.sh --no-wait --submission-id mine -- search_spaces/cvss.yaml --resume
#
# ADDRESS      the cluster's dashboard (default: http://127.0.0.1:8265, where `ray dashboard` puts it)
# RUNTIME_ENV  what the job takes along (default: cluster/runtime_env.yaml)
# RAY          the `ray` to call (default: .venv/bin/ray if it is there)
#
# To stop it: RAY_AUTH_MODE=token ray job stop --address ADDRESS ID. It goes on when submitted again
# with --resume.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

options=()
for argument in "$@"; do
    if [ "$argument" = -- ]; then
        while [ "$1" != -- ]; do
            options+=("$1")
            shift
        done
        shift
        break
    fi
done
if [ $# -eq 0 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
fi

# `ray start` asks for a token where it finds one; `ray job submit` must be told.
if [ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ] || [ -f ~/.ray/auth_token ]; then
    export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
fi
ray=${RAY:-ray}
if [ -z "${RAY:-}" ] && [ -x .venv/bin/ray ]; then ray=.venv/bin/ray; fi
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS # Ray would take them in place of --address
exec "$ray" job submit --address "${ADDRESS:-http://127.0.0.1:8265}" --working-dir . \
    --runtime-env "${RUNTIME_ENV:-cluster/runtime_env.yaml}" ${options[@]+"${options[@]}"} -- \
    python -m raystt.cli search "$@"
