#!/usr/bin/env bash
# Builds the page and drives it in a real browser, on SwiftShader, held to the native program (test/page.mjs). Installs what
# it needs: the wasm target, Chromium, Node and playwright-core. It says what cannot be had here, and ends with 77.
# Pictures of the page are in test-results/.
set -euo pipefail
cd "$(dirname "$0")"

not_run() {
    echo "The page was not tested: $*." >&2
    exit 77
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
    echo "Installing ${needed[*]}."
    { as_root apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends "${needed[@]}"; } >/dev/null ||
        not_run "apt-get cannot install ${needed[*]}"
fi
export CHROMIUM="${CHROMIUM:-$(command -v chromium)}"
(cd test && npm ci --silent --no-fund --no-audit) || not_run "npm cannot fetch playwright-core"

built=0
./build.sh || built=$?
[ "$built" != 77 ] || not_run "the page cannot be built here"
[ "$built" = 0 ] || exit "$built"
cargo build --quiet --manifest-path ../Cargo.toml --bin lenet
target="$(cargo metadata --format-version 1 --no-deps --manifest-path ../Cargo.toml |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')"
# What tests/all/shaders/tint.rs wrote.
kernels="$target/tmp/kernels.json"
[ -f "$kernels" ] || { echo "The kernels of the ops' cases are left out: run tests/run.sh before." >&2; kernels=""; }
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
node test/page.mjs site "$target/debug/lenet" test-results $kernels
