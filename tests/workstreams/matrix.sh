#!/bin/sh
# Installs the agent tools, runs every case of a workstream with every one of them, and writes docs/workstreams-matrix.md.
#
#   tests/workstreams/matrix.sh       about four minutes
#   ENGINE_UPDATE=0 ...matrix.sh      compares with the table that is committed, and writes nothing
#   ENGINE_AGENT_CASES="codex:quota :swings" ...matrix.sh     only these, and writes nothing
set -eu
cd "$(dirname "$0")/../.."

tests/agents/install.sh "${ENGINE_AGENTS_DIR:-target/agents}"
cargo build --quiet --locked --tests
ENGINE_AGENTS_REQUIRED=1 ENGINE_AGENT_MATRIX=1 ENGINE_UPDATE=${ENGINE_UPDATE:-1} \
    exec cargo test --quiet --locked --test agents -- --exact workstreams --nocapture
