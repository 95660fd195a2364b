#!/bin/sh
# Submits every job of a JSON Lines file and a report that comes after all of them: it runs last, whatever failed, and also when jobs
# wait behind a failed one. Prints the report, and ends with 0 if there is one.
set -eu
jobs=${1:?usage: nightly-report.sh JOBS.jsonl}
report=report-$(date -u +%Y%m%dT%H%M%S)
ids=$(engine submit - < "$jobs" | sed 's/.*/"&"/' | paste -s -d , -)
engine submit - > /dev/null <<END
{"job_id": "$report", "tool": "shell", "after": [$ids], "command": {"exe": "sh", "args": ["-c", "for id; do engine show \$id | head -n 1; done", "sh", $ids]}}
END
engine -q work --drain --slots 2 || true
engine log "$report"
engine -q wait "$report"
