#!/bin/sh
# Submits every job of a JSON Lines file, runs them two at a time, and ends as `engine wait` does: 0 if all of them succeeded,
# 1 if one did not (or was refused), 124 if an hour was not enough. Ctrl-C cancels what has not ended.
set -eu
jobs=${1:?usage: pipeline.sh JOBS.jsonl}
ids=$(engine submit --skip-existing - < "$jobs")
engine -q work --drain --slots 2 || true
# What another worker took is waited for, too.
echo "$ids" | engine wait --cancel-on-interrupt --timeout 3600 -
