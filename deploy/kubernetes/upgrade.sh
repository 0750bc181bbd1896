#!/bin/bash
# upgrade.sh upgrades and rolls back what install.sh has installed, all pods of it, under load.
# No purchase may fail.
. "$(dirname "$0")/common.sh"

revision=$($HELM history "$RELEASE" --namespace "$NAMESPACE" --max 1 | awk 'END { print $1 }')
begin_load "${SECONDS_OF_LOAD:-150}"
began=$(now)
h upgrade --set-string "defaults.podAnnotations.trial=$(date +%s)" --wait --timeout 5m >/dev/null
echo "helm upgrade: every pod was new and ready after $(since "$began")"
began=$(now)
$HELM rollback "$RELEASE" "$revision" --namespace "$NAMESPACE" --wait --timeout 5m >/dev/null
echo "helm rollback: every pod was new and ready after $(since "$began")"
load_ended && { echo "the load ended before: SECONDS_OF_LOAD is too little" >&2; exit 1; }
end_load
