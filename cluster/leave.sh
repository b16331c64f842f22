#!/bin/sh
# Leave the cluster before this node is taken away: trainers here save what they have trained, and
# go on elsewhere. For a pod's preStop hook, and for whoever hears that a spot node will end.
#   cluster/leave.sh [SECONDS]   # waits for so long at most (90), then stops Ray
seconds=${1:-90}
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "this node is taken away" \
    --deadline-remaining-seconds "$seconds"
while [ "$seconds" -gt 0 ] && pgrep -f ray::RayTrainWorker > /dev/null; do
    sleep 1
    seconds=$((seconds - 1))
done
exec ray stop
