#!/bin/bash
# install.sh installs everything from nothing, takes the time to the first purchase, and runs the
# chart's own test. The certificates are there before the time is taken.
. "$(dirname "$0")/common.sh"

$HELM uninstall "$RELEASE" --namespace "$NAMESPACE" --wait --ignore-not-found >/dev/null
$KUBECTL delete namespace "$NAMESPACE" --ignore-not-found --wait >/dev/null

deploy/kubernetes/certificates.sh

began=$(now)
h install --create-namespace >/dev/null
echo "helm install returned after $(since "$began")"
until_ok 180 in_coordinator product create first 10 --timeout 1s
until_ok 60 in_coordinator buy first --customer ann --request-id first --timeout 1s
echo "the first purchase was bought after $(since "$began")"
k rollout status "statefulset/$RELEASE-worker" --timeout=180s >/dev/null
k rollout status "deployment/$RELEASE-coordinator" --timeout=180s >/dev/null
echo "every pod was ready after $(since "$began")"

$HELM test "$RELEASE" --namespace "$NAMESPACE" --timeout 2m | grep -E '^Phase' | sed 's/^/helm test: /'
in_worker audit | grep findings
