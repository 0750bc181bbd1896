# common.sh is what the trials share. They need a cluster, and in it the images: HOLDFAST_IMAGE,
# POSTGRES_IMAGE and ETCD_IMAGE. KUBECTL and HELM are the commands that reach it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

KUBECTL=${KUBECTL:-kubectl}
HELM=${HELM:-helm}
NAMESPACE=${NAMESPACE:-holdfast-trial}
RELEASE=holdfast
HOLDFAST_IMAGE=${HOLDFAST_IMAGE:-ghcr.io/holdfast-io/holdfast:0.1.0}
POSTGRES_IMAGE=${POSTGRES_IMAGE:-postgres:17}
ETCD_IMAGE=${ETCD_IMAGE:-quay.io/coreos/etcd:v3.6.12}
ETCD_COMMAND=${ETCD_COMMAND:-/usr/local/bin/etcd}

RATE=${RATE:-200} # purchases a second of a load

k() { $KUBECTL --namespace "$NAMESPACE" "$@"; }

# chart_values are those of all trials: everything comes with the release.
chart_values() {
    echo --values deploy/kubernetes/trial-values.yaml \
        --set "image.repository=${HOLDFAST_IMAGE%:*},image.tag=${HOLDFAST_IMAGE##*:}" \
        --set "dev.postgres.image=$POSTGRES_IMAGE,dev.etcd.image=$ETCD_IMAGE,dev.etcd.command={${ETCD_COMMAND// /,}}"
}

# h runs Helm on the release, with those values.
h() {
    local command=$1
    shift
    # shellcheck disable=SC2046 # they are words
    $HELM "$command" "$RELEASE" helm/holdfast --namespace "$NAMESPACE" $(chart_values) "$@"
}

# in_coordinator and in_worker run a command of holdfast there.
in_coordinator() { k exec "deployment/$RELEASE-coordinator" -- /holdfast "$@"; }
in_worker() { # one that is ready
    local pod
    pod=$(k get pods -l app.kubernetes.io/component=worker \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' |
        awk '$2 == "True" { print $1; exit }')
    k exec "${pod:?no worker is ready}" -c worker -- /holdfast "$@"
}

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }

# until_ok repeats a command for so many seconds.
until_ok() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "not within time: $*" >&2; "$@"; return 1; }
        sleep 0.2
    done
}

# begin_load starts a load of so many seconds in a pod of its own, with the other arguments, and
# returns when it buys. It names two coordinators: a client passes over the one that does not answer.
begin_load() {
    local seconds=$1
    shift
    k delete pod load --ignore-not-found --wait >/dev/null
    k run load --image="$HOLDFAST_IMAGE" --image-pull-policy=IfNotPresent --restart=Never ${LOAD_OVERRIDES:+--overrides="$LOAD_OVERRIDES"} \
        --command -- /holdfast load --coordinator "${COORDINATORS:-$RELEASE-coordinator:7070}" \
        --rate "$RATE" --duration "${seconds}s" --timeout 60s "$@" >/dev/null
    until_ok 60 load_buys
}
load_buys() { k logs load | grep -q purchases; }

# end_load waits for the end of the load, prints its figures, recounts all shards, and fails when a
# purchase failed or the audit found something.
end_load() {
    local code
    until_ok 300 load_ended
    code=$(k get pod load -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}')
    k logs load | grep -v '%)'
    in_worker audit | grep findings
    [ "$code" = 0 ]
}
load_ended() { [ -n "$(k get pod load -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}')" ]; }
