#!/bin/bash
# lose-node.sh installs anew and loses a whole node under load: LOST_NODE is its name, LOSE_NODE the
# command that takes it away. Databases, etcd and the load are kept off that node, since they are
# not what is tried here. No purchase may fail.
: "${LOST_NODE:?the name of the node}" "${LOSE_NODE:?the command that takes it away}"
. "$(dirname "$0")/common.sh"

$KUBECTL cordon "$LOST_NODE" >/dev/null
deploy/kubernetes/install.sh | tail -1
$KUBECTL uncordon "$LOST_NODE" >/dev/null
for it in "deployment/$RELEASE-coordinator" "statefulset/$RELEASE-worker"; do
    k rollout restart "$it" >/dev/null
done
for it in "deployment/$RELEASE-coordinator" "statefulset/$RELEASE-worker"; do
    k rollout status "$it" --timeout=180s >/dev/null
done
placed() { k get pods -o wide | awk -v node="$LOST_NODE" 'NR > 1 { print ($7 == node ? "on " node : "elsewhere") ": " $1 }' | grep -E 'coordinator|worker' | sort; }
placed
for component in coordinator worker; do
    [ "$(placed | grep "$component" | cut -d: -f1 | uniq | wc -l)" = 2 ] || { echo "every $component is on one side" >&2; exit 1; }
done

# The buyers know both coordinators, by names that are in the certificate and lead to one pod each.
COORDINATORS=
for pod in $(pods coordinator); do
    name=$RELEASE-coordinator-$(($(wc -w <<<"${COORDINATORS//,/ }") + 1))
    k label pod "$pod" "app=$name" >/dev/null
    k create service clusterip "$name" --clusterip=None >/dev/null # which selects by app
    COORDINATORS+=${COORDINATORS:+,}$name:7070
done
elsewhere='{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[
    {"key":"kubernetes.io/hostname","operator":"NotIn","values":["'$LOST_NODE'"]}]}]}}}'
CLIENT_AFFINITY=$elsewhere begin_load 90
sleep 10 # of sales that nothing disturbs
began=$(now)
bash -c "$LOSE_NODE"
echo "the node is lost"
gone() { [ "$($KUBECTL get node "$LOST_NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" != True ]; }
until_ok 120 gone
echo "the cluster has noticed after $(since "$began")"
end_load
