#!/bin/sh
# Prints the state of every job from its record; needs no engine. usage: poller.sh ROOT
for record in "${1:?usage: poller.sh ROOT}"/state/jobs/*.jsonl; do
    [ -s "$record" ] || continue
    # A last line without its newline is still being written: only complete lines count.
    line=$(sed -n '$!p;${/}$/p}' "$record" | tail -n 1)
    status=$(printf '%s' "$line" | sed -n 's/.*"seq":[0-9]*,"at":"\([^"]*\)","job_id":"\([^"]*\)","status":"\([^"]*\)".*/\1 \2 \3/p')
    if [ -n "$status" ]; then echo "$status"; fi
done
