#!/bin/bash
# regions.sh has three regions in a namespace each, one release of the chart in each, with the values of
# helm/examples/three-regions; etcd and the databases come with a fourth release, "stores", beside that
# of eu. It buys one product from one region, then from another one, then from both: the tenure must
# move to where the buyers are, and stay when they are everywhere. No purchase may fail.
#
# ADD_DELAY is the command that puts DELAY_MS between regions: there and back again, so half of it on each
# way. It finds the pods, one a line, in the file PODS_OF_REGIONS: region, address, node, namespace/name.
# The file is written anew, by a rename, when a load has begun. A region's database counts as its own; etcd
# is in eu. Without ADD_DELAY nothing is added, and the waits say nothing of distance.
. "$(dirname "$0")/common.sh"

REGIONS="eu us ap"
DELAY_MS=${DELAY_MS:-40}
base=$NAMESPACE
in_region() { NAMESPACE=$base-$1 "${@:2}"; }

install_stores() {
    NAMESPACES="$base-eu $base-us $base-ap" deploy/kubernetes/certificates.sh
    # shellcheck disable=SC2046 # they are words
    in_region eu $HELM install stores helm/holdfast --namespace "$base-eu" $(chart_values) \
        --set coordinator.replicas=0,worker.replicas=0 --set 'shards[2].name=ap' >/dev/null
    for it in etcd postgres-eu postgres-us postgres-ap; do
        in_region eu k rollout status "deployment/stores-holdfast-$it" --timeout=180s >/dev/null
    done
}

# install_region REGION: the DSNs, and a release.
install_region() {
    local region=$1 shard arguments=() password
    password=$(in_region eu k get secret stores-holdfast-dev -o 'jsonpath={.data.postgres\.password}' | base64 -d)
    for shard in $REGIONS; do
        arguments+=(--from-literal="$shard=postgres://holdfast:$password@stores-holdfast-postgres-$shard.$base-eu.svc:5432/holdfast?sslmode=verify-full&sslrootcert=/etc/holdfast/shards/$shard/ca.crt")
    done
    in_region "$region" k create secret generic holdfast-shards "${arguments[@]}" >/dev/null
    in_region "$region" k create secret generic holdfast-shards-ca --from-file="ca.crt=$STATE/stores.crt" >/dev/null
    $HELM install "$RELEASE" helm/holdfast --namespace "$base-$region" \
        --values helm/examples/three-regions/values.yaml --values "helm/examples/three-regions/values-$region.yaml" \
        --values deploy/kubernetes/regions-values.yaml \
        --set "image.repository=${HOLDFAST_IMAGE%:*},image.tag=${HOLDFAST_IMAGE##*:}" \
        --set "etcd.endpoints={https://stores-holdfast-etcd.$base-eu.svc:2379}" --wait --timeout 4m >/dev/null
}

# pods_of_regions says where each pod is taken to be. One that has ended may have left its address to another.
pods_of_regions() {
    local region
    for region in $REGIONS; do
        in_region "$region" k get pods --field-selector status.phase=Running -o 'go-template={{range .items}}{{.status.podIP}} {{.spec.nodeName}} {{.metadata.namespace}}/{{.metadata.name}}{{"\n"}}{{end}}' |
            awk -v region="$region" '{ at = region } match($3, /-postgres-[a-z]+-/) { at = substr($3, RSTART + 10, RLENGTH - 11) } { print at, $0 }'
    done
}

PODS_OF_REGIONS=$STATE/pods-of-regions
write_pods() {
    pods_of_regions >"$PODS_OF_REGIONS.new"
    mv "$PODS_OF_REGIONS.new" "$PODS_OF_REGIONS"
}

# load_in REGION … is begin_load there, and its pod counts as that region's.
load_in() {
    in_region "$1" begin_load "${@:2}"
    write_pods
}

# tenure PRODUCT is its token and its holder, whose name begins with the region.
tenure() { in_region eu in_worker status --json | grep -o "\"product_id\":\"$1\",\"token\":[0-9]*,\"holder\":\"[^\"]*\"" | sed 's/.*"token":\([0-9]*\),"holder":"\([^"]*\)"/\1 \2/'; }
is_in() { [[ "$(tenure "$1")" == *" $2-"* ]]; }

# buy_from REGION waits until the product is where its buyers are, and tells their waits before and after.
buy_from() {
    local region=$1 began
    echo "buyers of $region, while $(tenure "$product" | cut -d' ' -f2) sells:"
    load_in "$region" "${SECONDS_BEFORE:-5}" --product "$product" --region "$region"
    in_region "$region" end_load
    began=$(now)
    load_in "$region" "${SECONDS_TO_MOVE:-60}" --product "$product" --region "$region"
    until_ok "${SECONDS_TO_MOVE:-60}" is_in "$product" "$region"
    echo "$(tenure "$product" | cut -d' ' -f2) sells after another $(since "$began")"
    in_region "$region" end_load
    echo "buyers of $region, now that it does:"
    load_in "$region" 20 --product "$product" --region "$region"
    in_region "$region" end_load
}

for region in $REGIONS; do
    $HELM uninstall "$RELEASE" --namespace "$base-$region" --ignore-not-found >/dev/null
    $KUBECTL delete namespace "$base-$region" --ignore-not-found --wait >/dev/null
done
install_stores
for region in $REGIONS; do install_region "$region"; done

write_pods
if [ -n "${ADD_DELAY:-}" ]; then
    PODS_OF_REGIONS=$PODS_OF_REGIONS DELAY_MS=$DELAY_MS bash -c "$ADD_DELAY"
    echo "$DELAY_MS ms between regions, as ADD_DELAY has it"
else
    echo "no delay between regions: ADD_DELAY is not set"
fi

# One that us does not sell from the start.
for n in $(seq 30); do
    product=regional-$n
    in_region ap in_coordinator product create "$product" 1000000000 >/dev/null
    in_region ap in_coordinator buy "$product" --customer ann --region ap >/dev/null
    is_in "$product" us || break
done
! is_in "$product" us

buy_from us
buy_from eu

echo "buyers of eu and us alike:"
for region in eu us; do RATE=$((RATE / 2)) load_in "$region" 60 --product "$product"; done
sleep 5 # until both are under way for a while
first=$(tenure "$product")
until in_region eu load_ended; do
    [ "$(tenure "$product")" = "$first" ] || { echo "it moved: $first, then $(tenure "$product")" >&2; exit 1; }
    sleep 3
done
echo "it stayed at $first"
for region in eu us; do in_region "$region" end_load; done
