#!/usr/bin/env bash
# A workstream with one fix, each of its processes killed before every durable step and torn in every write, then resumed: all
# points of tests/it/workstream_crash.rs, of which the suite takes a sample. Ends with the first point that does not hold.
set -euo pipefail
cd "$(dirname "$0")/../.."

export ENGINE_WORKSTREAM_CRASH=all
cargo test --quiet --test it -- --nocapture workstream_crash:: 2>/dev/null | sed -n 's/.*MATRIX\t\(.*\)\t\([0-9]*\)$/\2\t\1/p'
