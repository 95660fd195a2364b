#!/usr/bin/env bash
# Changes the code that decides, one place at a time, and asks the tests of the library whether they see it:
#
#     cargo install cargo-mutants --locked
#     benches/mutants.sh [COUNT [SEED]]       # 100 mutants, chosen by the seed 12
#
# What no test sees is in target/mutants/mutants.out/missed.txt; docs/mutants.md says what to do with it.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-100} seed=${2:-12}

files=()
for file in job/state 'policy/*' queue/ready queue/situation store/record worker/ready_set; do
    files+=(--file "src/$file.rs")
done

# cargo-mutants takes a part of its list, in order, but no sample of it.
mkdir -p target/mutants
cargo mutants --list "${files[@]}" | python3 -c '
import json, random, re, sys
count, seed = map(int, sys.argv[1:])
names = sorted(sys.stdin.read().splitlines())
sample = random.Random(seed).sample(names, min(count, len(names)))
print("examine_re =", json.dumps([f"^{re.escape(name)}$" for name in sample]))
' "$count" "$seed" >target/mutants/sample.toml

# The rooms that use nothing of this have the slowest tests.
others=(--skip adapter:: --skip evidence:: --skip fs:: --skip process::)
status=0
CARGO_TARGET_DIR=$PWD/target/mutants/build nice -n 19 cargo mutants --config target/mutants/sample.toml "${files[@]}" \
    --jobs 1 --timeout 120 --build-timeout 900 --cap-lints true --output target/mutants -- --lib -- "${others[@]}" ||
    status=$?
# 2: some were missed, 3: some ran into the time limit. Both are answers.
((status == 0 || status == 2 || status == 3)) || exit "$status"
