#!/bin/bash
# refused.sh tries to buy from what install.sh has installed without being entitled to: each attempt must
# be refused, be counted by a metric, and sell nothing.
. "$(dirname "$0")/common.sh"

deploy/kubernetes/certificates.sh foreign 1
product=refused-$(date +%s)
coordinator=(--coordinator "$RELEASE-coordinator:7070" --ca "$CA" --timeout 2s)
worker=(--coordinator "$RELEASE-worker:7071" --ca "$CA" --timeout 2s)

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d =; }

# jwt ISSUER CUSTOMER LASTS prints a buyer's token that ends in so many seconds, signed with that key.
jwt() {
    local at signed
    at=$(date +%s)
    signed=$(printf '{"alg":"RS256","typ":"JWT"}' | base64url).$(printf '{"iss":"https://issuer.invalid","aud":"holdfast","sub":"%s","roles":["buyer"],"iat":%d,"exp":%d}' \
        "$2" $((at - 3600)) $((at + $3)) | base64url)
    printf '%s.%s' "$signed" "$(printf %s "$signed" | openssl dgst -sha256 -sign "$STATE/$1.key" | base64url)"
}

# client ARGUMENT… runs a client's command to its end, and fails if it does.
client() {
    client_pod attempt "$@"
    until_ok 60 ended attempt
    [ "$(exit_of attempt)" = 0 ]
}

# taken WHAT COMMAND… runs a command, which must do.
taken() {
    local what=$1
    shift
    "$@" || { k logs attempt >&2; echo "not taken: $what" >&2; exit 1; }
    echo "taken: $what"
}

tried=0 # attempts
# refused WHAT COMPONENT METRIC COMMAND… runs a command, which must fail, and reads the metric of that
# component before and after.
refused() {
    local what=$1 component=$2 metric=$3 before after
    shift 3
    before=$(counted "$component" "$metric")
    if "$@"; then
        echo "not refused: $what" >&2
        exit 1
    fi
    after=$(counted "$component" "$metric")
    printf '%-66s %-55s %5d → %d\n' "$what" "$metric" "$before" "$after"
    [ "$after" -gt "$before" ] || { echo "not counted" >&2; exit 1; }
    tried=$((tried + 1))
}
auth() { echo "holdfast_auth_refused_total{reason=\"$1\"}"; }
peer() { echo "holdfast_peer_refused_total{reason=\"$1\"}"; }
buy=(buy "$product" --customer ann)

# What is right is taken, or nothing that follows would prove anything.
in_coordinator product create "$product" 1000 >/dev/null
CLIENT_TOKEN=$(cat "$STATE/token-ann") taken "a static token" client "${buy[@]}" "${coordinator[@]}"
CLIENT_TOKEN=$(jwt issuer ann 600) taken "an issuer's token" client "${buy[@]}" "${coordinator[@]}"
taken "a coordinator's certificate" knock peer-coordinator

CLIENT_TOKEN='' refused "to a worker, with neither certificate nor token" worker "$(peer no_certificate)" client "${buy[@]}" "${worker[@]}"
refused "to a worker, with an operator's token and no certificate" worker "$(peer no_certificate)" client "${buy[@]}" "${worker[@]}"
refused "to a worker, as holdfast-coordinator of another authority" worker "$(peer foreign_certificate)" knock foreign-peer
refused "to a worker, as somebody else of the right authority" worker "$(peer name)" knock other-peer

CLIENT_TOKEN='' refused "to a coordinator, without a token" coordinator "$(auth no_token)" client "${buy[@]}" "${coordinator[@]}"
CLIENT_TOKEN=$(jwt issuer ann -60) refused "to a coordinator, with a token that has expired" coordinator "$(auth expired)" client "${buy[@]}" "${coordinator[@]}"
CLIENT_TOKEN=$(jwt foreign-issuer ann 600) refused "to a coordinator, with a token that somebody else has signed" coordinator "$(auth foreign)" client "${buy[@]}" "${coordinator[@]}"
CLIENT_TOKEN=$(openssl rand -hex 32) refused "to a coordinator, with a static token that nobody has" coordinator "$(auth foreign)" client "${buy[@]}" "${coordinator[@]}"
CLIENT_TOKEN=$(jwt issuer ann 600) refused "to a coordinator, for ben, with ann's token" coordinator "$(auth customer)" client buy "$product" --customer ben "${coordinator[@]}"
CLIENT_TOKEN=$(jwt issuer ann 600) refused "to a coordinator, a buyer who puts a product on sale" coordinator "$(auth role)" client product create "$product-own" 5 "${coordinator[@]}"
CLIENT_TOKEN=$(cat "$STATE/token-viewer") refused "to a coordinator, a viewer who buys" coordinator "$(auth role)" client "${buy[@]}" "${coordinator[@]}"

left=$(in_coordinator product get "$product" --json | grep -oE '"amount_available_for_purchase": *"?[0-9]+' | grep -oE '[0-9]+$')
sold=$((1000 - left))
echo "$tried attempts, all refused and counted; sold: $sold, which are the two that were right"
[ "$sold" = 2 ]
in_worker audit | grep findings
