#!/usr/bin/env bash
# A workstream with one fix of which one process, or every one, is killed at a random moment, then resumed; a row for the table
# of docs/crash-contract.md. Ends with the first run that does not end as if nothing had happened.
#
#   tests/workstreams/kill.sh [N]      N runs (200); ENGINE_STRESS_SEED=N repeats the choices, not the moments
set -euo pipefail
cd "$(dirname "$0")/../.."

export ENGINE_WORKSTREAM_KILLS="${1:-200}"
cargo test --quiet --test it --no-run
# In a process namespace of its own: whatever goes wrong, nothing is left alive outside.
alone=(unshare --user --map-root-user --pid --fork --mount-proc --kill-child)
test "$(id -u)" != 0 || alone=(unshare --pid --fork --mount-proc --kill-child)
"${alone[@]}" cargo test --quiet --test it -- --nocapture workstream_kill:: |
    sed -n '/MATRIX\tseed/!s/.*MATRIX\t\(.*\)\t\([0-9]*\)$/| \1 | \2 | 0 | 0 | 0 |/p'
