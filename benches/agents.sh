#!/usr/bin/env bash
# What the engine costs around an agent: each real tool bare and through the engine, alternating, in one run.
#
#   benches/agents.sh [RUNS] [TOOL ...]     RUNS (10) of each kind for each tool (all four)
#
# Needs: tests/agents/install.sh, python3, unshare; a Rust toolchain with the musl target. The bare runs get the arguments, the
# environment and the standard input that the engine gave to the tool, recorded by a stand-in; both are served one edit by the
# scripted server on loopback. Rounds begin in turns. Peak memory is that of the engine's process alone.
set -euo pipefail
cd "$(dirname "$0")/.."
agents=$(tests/agents/install.sh "${ENGINE_AGENTS_DIR:-target/agents}")
cargo build --quiet --locked --example scripted_server
built=$(benches/built.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapping=$([ "$(id -u)" = 0 ] || echo --map-root-user)
# shellcheck disable=SC2086 # no option at all for root
unshare --net $mapping sh -c 'ip link set lo up && exec "$@"' sh python3 benches/agents.py \
    "$agents" "$built/engine" "${built%/*/*}/debug/examples/scripted_server" "$work" "${@:-10}"
