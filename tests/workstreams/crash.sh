#!/usr/bin/env bash
# A workstream with one fix, each of its processes killed before every durable step and torn in every write, and the power lost
# at every step of its conductor, then resumed; likewise the conductor of a workstream upon two others, and of an integration: all
# points of tests/it/workstream_crash.rs and workstream_power_loss.rs, of which the suite takes a sample. Ends with the first
# point that does not hold.
set -euo pipefail
cd "$(dirname "$0")/../.."

export ENGINE_WORKSTREAM_CRASH=all
cargo test --quiet --test it -- --nocapture workstream_crash:: workstream_power_loss:: |
    sed -n '/MATRIX\tseed/!s/.*MATRIX\t\(.*\)\t\([0-9]*\)$/| \1 | \2 | 0 | 0 | 0 |/p'
