#!/usr/bin/env bash
# Runs all tests. They need a GPU adapter; on a Linux machine without one this first installs Mesa's lavapipe, a
# software adapter, with the system's package manager. Arguments are passed on to `cargo test`.
#
#   tests/run.sh --adapter swiftshader   the ops on SwiftShader, a second software adapter, independent of the first: it
#                                        comes with Chromium (Debian: apt-get install chromium). Ends with 77 where it is
#                                        not installed.
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

# The file that tells Vulkan's loader of SwiftShader; nothing where there is none.
swiftshader() {
    local folder
    for folder in /usr/lib/chromium /usr/lib64/chromium-browser /usr/lib/chromium-browser /opt/google/chrome; do
        if [ -f "$folder/vk_swiftshader_icd.json" ]; then
            echo "$folder/vk_swiftshader_icd.json"
            return
        fi
    done
}

if [ "${1:-}" = --adapter ]; then
    [ "${2:-}" = swiftshader ] || { echo "--adapter: expected swiftshader, got ${2:-nothing}" >&2; exit 2; }
    shift 2
    VK_DRIVER_FILES="$(swiftshader)"
    [ -n "$VK_DRIVER_FILES" ] || { echo "SwiftShader is not installed: the ops were not run on it." >&2; exit 77; }
    export VK_DRIVER_FILES XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
    echo "The ops on SwiftShader ($VK_DRIVER_FILES):"
    [ $# -gt 0 ] || set -- --test all -- ops:: special::
    exec cargo test "$@"
fi

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
