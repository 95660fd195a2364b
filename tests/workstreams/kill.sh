#!/usr/bin/env bash
# Runs of which one process, or every one, is killed at random moments, then resumed; rows for the table of
# docs/crash-contract.md. Ends with the first run that does not end as if nothing had happened.
#
#   tests/workstreams/kill.sh [N]           one workstream with one fix, N times (200)
#   tests/workstreams/kill.sh --many [N]    twelve workstreams, three slots, N times (100); then without kills, with random
#                                           delays and 1, 2, 3 and 8 slots, 20 times each: one tree
#
# ENGINE_STRESS_SEED=N repeats the choices, not the moments.
set -euo pipefail
cd "$(dirname "$0")/../.."

if test "${1:-}" = --many; then
    export ENGINE_WORKSTREAMS_KILLS="${2:-100}" ENGINE_WORKSTREAMS_RUNS=20
    tests=(workstream_kill::random_kills_of_a_run_of_twelve same_trees)
else
    export ENGINE_WORKSTREAM_KILLS="${1:-200}"
    tests=(workstream_kill::random_kills_of_one_process)
fi
cargo test --quiet --test it --no-run
# In a process namespace of its own: whatever goes wrong, nothing is left alive outside.
alone=(unshare --user --map-root-user --pid --fork --mount-proc --kill-child)
test "$(id -u)" != 0 || alone=(unshare --pid --fork --mount-proc --kill-child)
"${alone[@]}" cargo test --quiet --test it -- --nocapture --test-threads 1 "${tests[@]}" |
    sed -n '/MATRIX\tseed/!s/.*MATRIX\t\(.*\)\t\([0-9]*\)$/| \1 | \2 | 0 | 0 | 0 |/p'
