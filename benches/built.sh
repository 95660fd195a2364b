#!/usr/bin/env bash
# Builds the release that is measured, and prints the directory of its programs. Arguments go to a second build: `--example limit`.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${ENGINE_BENCH_TARGET:-x86_64-unknown-linux-musl}
cargo build --quiet --release --locked --target "$target" >&2
if [ $# -gt 0 ]; then
    cargo build --quiet --release --locked --target "$target" "$@" >&2
fi
where='import json, sys; print(json.load(sys.stdin)["target_directory"])'
echo "$(cargo metadata --format-version 1 --no-deps | python3 -c "$where")/$target/release"
