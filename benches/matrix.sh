#!/usr/bin/env bash
# The crash matrix in full: everything that is killed, and every way in which the power can go, as a table.
#
#   benches/matrix.sh [JOBS]      4 workers x JOBS (2000) jobs under random kills; ENGINE_STRESS_SEED=N repeats a run
#
# Each number is of checks that passed: a job lost, run twice or left alive ends a test, and this script, with a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

export ENGINE_STRESS_JOBS="${1:-2000}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo build --quiet --tests --examples
cargo test --quiet --test it -- --nocapture --test-threads 1 stress:: 2>&1 | tee "$log" >&2
# One scenario shows that the checks notice what is lost; its panics are the proof and are not shown.
cargo test --quiet --test it -- --nocapture power_loss:: 2>/dev/null | tee -a "$log" >&2
for part in crash model matrix control keep submit worker full_disk; do
    passed=$(cargo test --quiet --test it "$part::" 2>/dev/null | sed -n 's/^test result: ok. \([0-9]*\) passed.*/\1/p')
    printf 'MATRIX\ttests of tests/it/%s.rs that passed: kills and meetings at chosen steps\t%s\n' "$part" "$passed" >>"$log"
done

echo
echo "| what was done | how often | lost | ran twice | stayed alive |"
echo "|---|---:|---:|---:|---:|"
sed -n '/MATRIX\tseed/!s/.*MATRIX\t\(.*\)\t\([0-9]*\)$/| \1 | \2 | 0 | 0 | 0 |/p' "$log"
sed -n 's/.*MATRIX\tseed\t/ENGINE_STRESS_SEED=/p' "$log" >&2
