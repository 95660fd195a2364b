#!/bin/sh
# Submits every job of a JSON Lines file, runs them two at a time, and says 0 only if all of them succeeded.
set -eu
jobs=${1:?usage: pipeline.sh JOBS.jsonl}
ids=$(engine submit --skip-existing - < "$jobs")
engine -q work --drain --slots 2 || true
# What another worker took is waited for, too.
echo "$ids" | xargs engine wait --timeout 3600
