#!/bin/bash
# kill-holders.sh buys one product and deletes, without grace, the pod of the worker that holds it:
# every 5 seconds, for two minutes. No purchase may fail.
. "$(dirname "$0")/common.sh"

holder() { in_worker status --json | grep -o '"product_id":"load-[^"]*","token":[0-9]*,"holder":"[^"]*"' | tail -1 | sed 's/.*"holder":"//; s/"$//'; }

begin_load 130 --products 1
killed=0 end=$((SECONDS + 120))
while [ $SECONDS -lt $end ]; do
    next=$((SECONDS + 5))
    pod=$(holder || true)
    if [ -n "$pod" ] && k delete pod "$pod" --grace-period=0 --force >/dev/null 2>&1; then
        killed=$((killed + 1))
    fi
    [ $SECONDS -ge $next ] || sleep $((next - SECONDS))
done
echo "$killed holders killed"
end_load
[ "$killed" -ge 20 ]
