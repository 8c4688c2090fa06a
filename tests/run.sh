#!/usr/bin/env bash
# Runs all tests. They need a GPU adapter; on a Linux machine without one this first installs Mesa's lavapipe, a
# software adapter, with the system's package manager. Arguments are passed on to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

# Whether Vulkan's loader is installed and knows at least one driver.
has_vulkan() {
    (ldconfig -p 2>/dev/null || /sbin/ldconfig -p) | grep -q 'libvulkan\.so\.1' || return 1
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null
}

install_lavapipe() {
    local root=""
    [ "$(id -u)" = 0 ] || root=sudo
    if command -v apt-get >/dev/null; then
        $root apt-get update -qq
        DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers
    elif command -v dnf >/dev/null; then
        $root dnf install -y vulkan-loader mesa-vulkan-drivers
    elif command -v pacman >/dev/null; then
        $root pacman -S --noconfirm vulkan-icd-loader vulkan-swrast
    else
        echo "No Vulkan driver found. Install one (Mesa's lavapipe will do), then run this again." >&2
        exit 1
    fi
}

if [ "$(uname -s)" = Linux ] && ! has_vulkan; then
    echo "No Vulkan driver found: installing Mesa's lavapipe."
    install_lavapipe
fi
# Mesa asks for this folder and complains when it is not named.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"

cargo test "$@"
if [ $# = 0 ]; then
    # Release builds leave out the bounds checks that naga injects; the kernels are run that way as well.
    echo "The ops once more, without injected shader checks:"
    WGRAD_SHADER_CHECKS=off cargo test --test all ops::
fi
