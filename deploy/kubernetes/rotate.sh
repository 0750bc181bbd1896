#!/bin/bash
# rotate.sh exchanges all certificates of what install.sh has installed, and their authority, under load:
# both authorities are trusted everywhere, then the new one signs, then the old one is gone. No pod is
# restarted for that. In each state a worker and a coordinator are replaced all the same, so that
# connections are made anew. No purchase may fail.
. "$(dirname "$0")/common.sh"

not_after() { date -d "$(openssl x509 -noout -enddate -in "$STATE/$1.crt" | cut -d= -f2)" +%s; }

# shows POD CERTIFICATE NAME tells whether a pod shows the certificate NAME of STATE.
shows() {
    local metric="holdfast_certificate_not_after_timestamp_seconds{certificate=\"$2\"}"
    [ "$(metrics "$1" | awk -v metric="$metric" '$1 == metric { printf "%.0f", $2 }')" = "$(not_after "$3")" ]
}
all_show() {
    local pod
    for pod in $(pods coordinator); do
        shows "$pod" server server && shows "$pod" peer peer-coordinator && shows "$pod" etcd etcd-client || return 1
    done
    for pod in $(pods worker); do
        shows "$pod" peer peer-worker && shows "$pod" etcd etcd-client || return 1
    done
}

# step WHAT GENERATION DAYS TRUSTED… Every step has certificates that end on another day, so that
# it is seen who has read them; trusted authorities are read along with them.
step() {
    local what=$1 began
    shift
    began=$(now)
    deploy/kubernetes/certificates.sh leaves "$@"
    # Kubernetes brings Secrets to pods within one to two minutes, and at once to pods that change.
    k annotate pods -l 'app.kubernetes.io/component in (coordinator, worker)' --overwrite "trial/days=$2" >/dev/null
    until_ok 180 all_show
    echo "$what: every pod had read it after $(since "$began")"
    k delete pod "$(pods worker | head -1)" "$(pods coordinator | head -1)" --wait >/dev/null
    k rollout status "statefulset/$RELEASE-worker" --timeout=180s >/dev/null
    k rollout status "deployment/$RELEASE-coordinator" --timeout=180s >/dev/null
}

cp "$STATE/peer-coordinator.crt" "$STATE/former-peer.crt"
cp "$STATE/peer-coordinator.key" "$STATE/former-peer.key"
restarts() { k get pods -o 'jsonpath={range .items[*]}{.status.containerStatuses[0].restartCount}{"\n"}{end}' | awk '{ sum += $1 } END { print sum + 0 }'; }
restarted=$(restarts)

deploy/kubernetes/certificates.sh clients 1 2 # they have to know the new authority before anybody shows it
knock former-peer
begin_load "${SECONDS_OF_LOAD:-240}"
step "both authorities are trusted" 1 80 1 2
step "the new authority has signed" 2 70 1 2
step "the old authority is gone" 2 60 2
load_ended && { echo "the load ended before: SECONDS_OF_LOAD is too little" >&2; exit 1; }
end_load

knock peer-coordinator
if knock former-peer; then
    echo "a certificate of the old authority is still taken" >&2
    exit 1
fi
echo "a certificate of the old authority is refused, one of the new authority is taken"
in_coordinator product create "rotated-$(date +%s)" 1 >/dev/null # by a client that trusts the new one only
[ "$(restarts)" -le "$restarted" ] || { echo "a container was restarted" >&2; exit 1; }
