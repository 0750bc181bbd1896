#!/bin/bash
# certificates.sh makes what the trials show and trust, with openssl, and puts it into Secrets. There
# are two authorities: "stores", for etcd and Postgres, is made once; that of coordinators, workers and
# clients has generations.
#
#   certificates.sh                      everything, anew
#   certificates.sh leaves GENERATION DAYS [TRUSTED…]   certificates of that generation's authority,
#                                        with authorities of these generations in every ca.crt
#   certificates.sh clients TRUSTED…     only whom clients trust
#   certificates.sh foreign GENERATION   what workers must refuse, in STATE only
#
# NAMESPACES are where the Secrets go, STATE the folder where keys stay.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

NAMESPACES=${NAMESPACES:-$NAMESPACE}
umask 077
mkdir -p "$STATE"

# authority NAME makes a CA: NAME.crt and NAME.key.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj "/CN=$1" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$STATE/$1.key" -out "$STATE/$1.crt" 2>/dev/null
}

# leaf NAME AUTHORITY DAYS USAGE [DNS NAME…] makes NAME.crt and NAME.key.
leaf() {
    local name=$1 ca=$2 days=$3 usage=$4
    shift 4
    {
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=$usage"
        [ $# = 0 ] || echo "subjectAltName=$(printf 'DNS:%s\n' "$@" | paste -sd,)"
    } >"$STATE/$name.ext"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/CN=$name" \
        -keyout "$STATE/$name.key" -out "$STATE/$name.csr" 2>/dev/null
    openssl x509 -req -in "$STATE/$name.csr" -CA "$STATE/$ca.crt" -CAkey "$STATE/$ca.key" \
        -days "$days" -extfile "$STATE/$name.ext" -out "$STATE/$name.crt" 2>/dev/null
}

# of_service NAME… are the names by which Services are called, in their namespace and from others.
of_service() {
    local name namespace
    for name in "$@"; do
        echo "$name"
        for namespace in $NAMESPACES; do
            printf '%s\n' "$name.$namespace" "$name.$namespace.svc" "$name.$namespace.svc.cluster.local"
        done
    done
}

# secret NAME [ARGUMENT…] creates or replaces a Secret in each namespace.
secret() {
    local name=$1 namespace
    shift
    for namespace in $NAMESPACES; do
        $KUBECTL --namespace "$namespace" create secret generic "$name" "$@" --dry-run=client -o yaml |
            $KUBECTL --namespace "$namespace" apply -f - >/dev/null
    done
}

# tls_secret NAME LEAF CA-FILE
tls_secret() { secret "$1" --from-file="tls.crt=$STATE/$2.crt" --from-file="tls.key=$STATE/$2.key" --from-file="ca.crt=$3"; }

# leaves GENERATION DAYS [TRUSTED…]: who shows what, and whom all of them trust.
leaves() {
    local generation=$1 days=$2 ca=$STATE/trusted.crt
    local trusted=("${@:3}")
    [ ${#trusted[@]} -gt 0 ] || trusted=("$generation")
    [ -f "$STATE/ca-$generation.key" ] || authority "ca-$generation"
    local names
    # The ones with numbers are for trials in which a client knows each coordinator.
    mapfile -t names < <(of_service "$RELEASE-coordinator" "$RELEASE-coordinator-1" "$RELEASE-coordinator-2")
    leaf server "ca-$generation" "$days" serverAuth "${names[@]}"
    leaf peer-coordinator "ca-$generation" "$days" clientAuth holdfast-coordinator
    leaf peer-worker "ca-$generation" "$days" serverAuth,clientAuth holdfast-worker
    leaf etcd-client stores "$days" clientAuth
    bundle "${trusted[@]}" >"$ca"
    tls_secret holdfast-server server "$ca"
    tls_secret holdfast-peer-coordinator peer-coordinator "$ca"
    tls_secret holdfast-peer-worker peer-worker "$ca"
    tls_secret etcd-client etcd-client "$STATE/stores.crt"
    secret holdfast-ca --from-file="ca.crt=$ca" # what clients have
}

# bundle GENERATION… prints authorities, which are made if they are not there.
bundle() {
    local each
    for each in "$@"; do
        [ -f "$STATE/ca-$each.key" ] || authority "ca-$each"
        cat "$STATE/ca-$each.crt"
    done
}

# foreign: the right name of another authority, and another name of the right one.
foreign() {
    authority foreign
    leaf foreign-peer foreign 1 clientAuth holdfast-coordinator
    leaf other-peer "ca-$1" 1 clientAuth shop
}

# stores: what the etcd and the databases show that come with a release, for any shard of the trials.
stores() {
    local names
    mapfile -t names < <(of_service {"$RELEASE",stores-holdfast}-{etcd,postgres-eu,postgres-us,postgres-ap})
    authority stores
    leaf stores-server stores 365 serverAuth,clientAuth localhost "${names[@]}"
    tls_secret stores stores-server "$STATE/stores.crt"
}

# callers: static tokens of an operator, a viewer and the buyer ann, and the key of an issuer.
callers() {
    local name arguments=()
    for name in operator viewer ann; do
        openssl rand -hex 32 | tr -d '\n' >"$STATE/token-$name"
        arguments+=(--from-file="$name=$STATE/token-$name")
    done
    hash_of() { sha256sum "$STATE/token-$1" | cut -d' ' -f1; }
    cat >"$STATE/tokens.yaml" <<YAML
- {name: operator, role: operator, sha256: $(hash_of operator)}
- {name: viewer, role: viewer, sha256: $(hash_of viewer)}
- {name: ann, role: buyer, customer_id: ann, sha256: $(hash_of ann)}
YAML
    secret holdfast-tokens --from-file="tokens.yaml=$STATE/tokens.yaml"
    secret trial-tokens "${arguments[@]}"
    for name in issuer foreign-issuer; do
        openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$STATE/$name.key" 2>/dev/null
        openssl pkey -in "$STATE/$name.key" -pubout -out "$STATE/$name.pub"
    done
    secret holdfast-issuer --from-file="keys.pem=$STATE/issuer.pub"
}

case ${1:-everything} in
everything)
    rm -f "$STATE"/ca-*
    for namespace in $NAMESPACES; do
        $KUBECTL create namespace "$namespace" --dry-run=client -o yaml | $KUBECTL apply -f - >/dev/null
    done
    stores
    leaves 1 90
    callers
    ;;
clients)
    bundle "${@:2}" >"$STATE/trusted.crt"
    secret holdfast-ca --from-file="ca.crt=$STATE/trusted.crt"
    ;;
foreign) foreign "$2" ;;
leaves)
    shift
    leaves "$@"
    ;;
*)
    echo "usage: certificates.sh [leaves GENERATION DAYS [TRUSTED…] | clients TRUSTED… | foreign GENERATION]" >&2
    exit 2
    ;;
esac
