#!/bin/sh
# Installs the four agent tools that the tests drive, pinned, into DIR (default target/agents):
# DIR/aider is a Python environment, DIR/npm/node_modules/.bin holds the others. Quick when all is there.
set -eu

AIDER=0.86.2
CODEX=0.169.0
CLAUDE=2.1.197
GEMINI=0.61.0

dir=${1:-$(dirname "$0")/../../target/agents}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
bin=$dir/npm/node_modules/.bin

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# The version is read from what is installed, not from the tool: starting one takes up to two seconds.
npm_version() {
    sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' "$dir/npm/node_modules/$1/package.json" 2>/dev/null | head -n 1
}

has_aider() {
    [ -x "$dir/aider/bin/aider" ] &&
        ls -d "$dir"/aider/lib/python3*/site-packages/aider_chat-"$AIDER".dist-info >/dev/null 2>&1
}

has_npm() {
    [ "$(npm_version @openai/codex)" = "$CODEX" ] && [ -x "$bin/codex" ] &&
        [ "$(npm_version @anthropic-ai/claude-code)" = "$CLAUDE" ] && [ -x "$bin/claude" ] &&
        [ "$(npm_version @google/gemini-cli)" = "$GEMINI" ] && [ -x "$bin/gemini" ]
}

if ! has_aider; then
    command -v python3 >/dev/null || fail "python3 is missing, so aider cannot be installed"
    rm -rf "$dir/aider"
    python3 -m venv "$dir/aider" || fail "error making a Python environment in $dir/aider"
    "$dir/aider/bin/pip" install --quiet --disable-pip-version-check "aider-chat==$AIDER" ||
        fail "error installing aider-chat $AIDER"
    has_aider || fail "aider $AIDER is not there after its installation"
fi

if ! has_npm; then
    command -v npm >/dev/null || fail "npm is missing, so codex, claude and gemini cannot be installed"
    mkdir -p "$dir/npm"
    npm install --prefix "$dir/npm" --no-audit --no-fund --silent --save-exact \
        "@openai/codex@$CODEX" "@anthropic-ai/claude-code@$CLAUDE" "@google/gemini-cli@$GEMINI" ||
        fail "error installing codex $CODEX, claude $CLAUDE and gemini $GEMINI"
    has_npm || fail "codex, claude or gemini is not there after the installation"
fi

# A package can be there and its program not run (a wrong libc, an old Node): this is told here, not by a test.
stamp=$dir/checked
now="$AIDER $CODEX $CLAUDE $GEMINI"
if [ "$(cat "$stamp" 2>/dev/null)" != "$now" ]; then
    HOME=$(mktemp -d)
    export HOME
    trap 'rm -rf "$HOME"' EXIT
    for tool in "$dir/aider/bin/aider $AIDER" "$bin/codex $CODEX" "$bin/claude $CLAUDE" "$bin/gemini $GEMINI"; do
        said=$("${tool% *}" --version 2>&1 </dev/null) || fail "${tool% *} does not start: $said"
        case $said in
            *"${tool##* }"*) ;;
            *) fail "${tool% *} says $said in the place of ${tool##* }" ;;
        esac
    done
    echo "$now" >"$stamp"
fi
echo "$dir"
