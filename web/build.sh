#!/usr/bin/env bash
# Builds the page into web/site/: static files that any web server can serve. Needs a Rust toolchain; installs what else it
# takes, and ends with 77 where that cannot be had: the wasm target through rustup or, where that cannot fetch it, Debian's
# packages of the compiler and of the standard library's source.
set -euo pipefail
cd "$(dirname "$0")"

readonly target=wasm32-unknown-unknown
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

has_rustup_target() {
    command -v rustup >/dev/null || return 1
    rustup target list --installed 2>/dev/null | grep -qx "$target" || rustup target add "$target"
}

# The compiler of Debian and the source of its standard library, which is then compiled for the target as well.
use_debian() {
    command -v apt-get >/dev/null || return 1
    local packages=(rustc-web cargo-web rust-web-src lld) linker
    dpkg -s "${packages[@]}" >/dev/null 2>&1 ||
        { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "${packages[@]}"; } ||
        return 1
    # rustup's own linker is the one that this was tried with; Debian's is older.
    linker="$(find "$(rustc --print sysroot)" -name rust-lld -type f 2>/dev/null | head -n1)"
    linker="${linker:-$(command -v wasm-ld)}"
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$linker"
    cargo=(/usr/bin/cargo)
    std=(-Zbuild-std=std,panic_abort)
}

cargo=(cargo)
std=()
if ! has_rustup_target && ! use_debian; then
    echo "web/build.sh: no compiler for $target: rustup cannot fetch the target, and there are no Debian packages." >&2
    exit 77
fi
if ! cargo fetch --quiet --locked --manifest-path bindgen/Cargo.toml || ! cargo fetch --quiet --locked --target "$target"; then
    echo "web/build.sh: the crates cannot be fetched." >&2
    exit 77
fi

# Both lines of a build: the module, and the tool that writes its JavaScript, which is built for this machine.
(unset RUSTC RUSTC_BOOTSTRAP && cargo build --quiet --release --locked --manifest-path bindgen/Cargo.toml)
"${cargo[@]}" build --release --locked "${std[@]}" --target "$target"

rm -rf site
mkdir -p site/data
"$CARGO_TARGET_DIR/release/wgrad-web-bindgen" "$CARGO_TARGET_DIR/$target/release/wgrad_web.wasm" site
# No server takes this name for one that it should unpack by itself.
gzip -9n <site/wgrad_web_bg.wasm >site/program.packed
rm site/wgrad_web_bg.wasm
cp page/* site/
cp ../data/fashion-mnist/*.gz ../data/fashion-mnist/LICENSE site/data/
# What the page keeps for when there is no connection: its own files.
(cd site && ls -p | grep -v / >../files.txt && mv ../files.txt .)
echo "web/site: $(du -sk --exclude=data site | cut -f1) kB, and $(du -sk site/data | cut -f1) kB of images."
