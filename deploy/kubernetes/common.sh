# common.sh is what the trials share. They need a cluster, and in it the images: HOLDFAST_IMAGE,
# POSTGRES_IMAGE and ETCD_IMAGE. KUBECTL and HELM are the commands that reach it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

KUBECTL=${KUBECTL:-kubectl}
HELM=${HELM:-helm}
KNOCK_PORT=${KNOCK_PORT:-17071} # the first of a few free ones
LOCALLY=${LOCALLY:-} # runs a command where KUBECTL runs, if that is not here
NAMESPACE=${NAMESPACE:-holdfast-trial}
RELEASE=holdfast
HOLDFAST_IMAGE=${HOLDFAST_IMAGE:-ghcr.io/holdfast-io/holdfast:0.1.0}
POSTGRES_IMAGE=${POSTGRES_IMAGE:-postgres:17}
ETCD_IMAGE=${ETCD_IMAGE:-quay.io/coreos/etcd:v3.6.12}
ETCD_COMMAND=${ETCD_COMMAND:-/usr/local/bin/etcd}

RATE=${RATE:-200} # purchases a second of a load

# Keys and certificates that certificates.sh has made.
STATE=${STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast-trial}

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

# in_coordinator and in_worker run a command of holdfast there. A coordinator's pod has the
# authority, the address of the Service and an operator's token; a worker's all that reaches etcd and
# the shards.
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

# client_pod NAME ARGUMENT… runs a client's command in a pod of its own, which has clients' ca.crt and
# an operator's token, or else the one of CLIENT_TOKEN. CLIENT_AFFINITY says where.
client_pod() {
    local name=$1 args token='{"name":"HOLDFAST_TOKEN","valueFrom":{"secretKeyRef":{"name":"trial-tokens","key":"operator"}}}'
    shift
    args=$(printf '"%s",' "$@")
    [ -z "${CLIENT_TOKEN+set}" ] || token=${CLIENT_TOKEN:+'{"name":"HOLDFAST_TOKEN","value":"'$CLIENT_TOKEN'"}'}
    k delete pod "$name" --ignore-not-found --wait >/dev/null
    k create -f - >/dev/null <<JSON
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "$name"},
 "spec": {
  "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
  "affinity": ${CLIENT_AFFINITY:-null},
  "containers": [{
   "name": "holdfast", "image": "$HOLDFAST_IMAGE", "imagePullPolicy": "IfNotPresent", "command": ["/holdfast"], "args": [${args%,}],
   "env": [$token], "volumeMounts": [{"name": "ca", "mountPath": "/etc/holdfast/ca", "readOnly": true}]}],
  "volumes": [{"name": "ca", "secret": {"secretName": "holdfast-ca"}}]}}
JSON
}
exit_of() { k get pod "$1" -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}'; }
ended() { [ -n "$(exit_of "$1")" ]; }

# CA is what clients trust, in their pods.
CA=/etc/holdfast/ca/ca.crt

# begin_load starts a load of so many seconds in a pod of its own, with the other arguments, and
# returns when it buys.
begin_load() {
    local seconds=$1
    shift
    client_pod load load --coordinator "${COORDINATORS:-$RELEASE-coordinator:7070}" --ca "$CA" \
        --rate "$RATE" --duration "${seconds}s" --timeout 60s "$@"
    until_ok 60 load_buys
}
load_buys() { k logs load | grep -q purchases; }

# end_load waits for the end of the load, prints its figures, recounts all shards, and fails when a
# purchase failed or the audit found something.
end_load() {
    local code
    until_ok "${SECONDS_TO_END:-600}" load_ended
    code=$(exit_of load)
    k logs load | grep -v '%)'
    in_worker audit | grep findings
    [ "$code" = 0 ]
}
load_ended() { ended load; }

# pods COMPONENT are the names of those that are not being stopped.
pods() {
    k get pods -l "app.kubernetes.io/component=$1" \
        -o 'go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}'
}

metrics() { $KUBECTL get --raw "/api/v1/namespaces/$NAMESPACE/pods/$1:9090/proxy/metrics"; }

# counted COMPONENT METRIC is the sum of a metric, NAME{LABELS}, over its pods.
counted() {
    local pod
    for pod in $(pods "$1"); do metrics "$pod"; done | awk -v metric="$2" '$1 == metric { sum += $2 } END { printf "%.0f\n", sum }'
}

# knock NAME connects to a worker with the certificate NAME of STATE, as a coordinator does, and fails
# when it is turned away. openssl does it, since the image's clients have no certificates.
knock() {
    local said forward port
    port=$((KNOCK_PORT++)) # each has its own: where KUBECTL is a wrapper the last one may still listen
    $KUBECTL --namespace "$NAMESPACE" port-forward "pod/$(pods worker | head -1)" "$port:7071" >/dev/null 2>&1 &
    forward=$!
    until_ok 20 $LOCALLY bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
    # The beginning of HTTP/2. With TLS 1.3 a client learns only by its first read that it is turned away.
    said=$({ printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0'; sleep 2; } |
        $LOCALLY timeout 20 openssl s_client -connect "127.0.0.1:$port" -servername holdfast-worker -verify_hostname holdfast-worker \
            -verify_return_error -CAfile "$STATE/trusted.crt" -alpn h2 -cert "$STATE/$1.crt" -key "$STATE/$1.key" 2>&1 | tr -d '\0' || true)
    kill "$forward" 2>/dev/null || true
    wait "$forward" 2>/dev/null || true
    grep -q 'Verify return code: 0 (ok)' <<<"$said" && ! grep -qi alert <<<"$said"
}
