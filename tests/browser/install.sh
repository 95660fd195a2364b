#!/bin/sh
# Installs what the tests of web pages need, pinned, into DIR (default target/browser): puppeteer-core and axe-core. The browser
# itself comes from the system: `chromium`, installed with apt-get where that can be done. Quick when all is there.
set -eu

PUPPETEER=25.16.0
AXE=4.14.1

dir=${1:-$(dirname "$0")/../../target/browser}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

version() {
    sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' "$dir/node_modules/$1/package.json" 2>/dev/null | head -n 1
}

if ! command -v chromium >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "there is no chromium"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
        fail "error installing chromium"
fi
if [ "$(version puppeteer-core)" != "$PUPPETEER" ] || [ "$(version axe-core)" != "$AXE" ]; then
    command -v npm >/dev/null || fail "npm is missing"
    npm install --prefix "$dir" --no-audit --no-fund --silent --save-exact \
        "puppeteer-core@$PUPPETEER" "axe-core@$AXE" || fail "error installing puppeteer-core and axe-core"
fi
echo "$dir"
