#!/usr/bin/env bash
# Builds the page and drives it in a real browser, on SwiftShader, held to the native program (test/page.mjs). Installs what
# it needs: the wasm target, Chromium, Node and playwright-core. Where something cannot be had it says what was not run.
# Pictures of the page are in test-results/.
set -euo pipefail
cd "$(dirname "$0")"

not_run() {
    echo "web/test.sh: NOT RUN, the page is untested: $*" >&2
    exit 0
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

needed=()
[ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || needed+=(chromium)
command -v node >/dev/null || needed+=(nodejs)
command -v npm >/dev/null || needed+=(npm)
command -v python3 >/dev/null || needed+=(python3)
if [ "${#needed[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || not_run "${needed[*]} missing, and no apt-get to install it with"
    { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "${needed[@]}"; } ||
        not_run "apt-get cannot install ${needed[*]}"
fi
export CHROMIUM="${CHROMIUM:-$(command -v chromium)}"
(cd test && npm ci --silent --no-fund --no-audit) || not_run "npm cannot fetch playwright-core"

./build.sh || { [ "$?" = 3 ] && not_run "there is no compiler for wasm32-unknown-unknown"; exit 1; }
cargo build --quiet --manifest-path ../Cargo.toml --bin lenet
lenet="$(cargo metadata --format-version 1 --no-deps --manifest-path ../Cargo.toml |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/lenet"
node test/page.mjs site "$lenet" test-results
