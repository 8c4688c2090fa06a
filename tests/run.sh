#!/usr/bin/env bash
# Runs all tests. They need a GPU adapter; on a Linux machine without one this first installs Mesa's lavapipe, a
# software adapter, with the system's package manager. Arguments are passed on to `cargo test`.
#
#   tests/run.sh --adapter swiftshader   the ops on SwiftShader, a second software adapter, independent of the first: it
#                                        comes with Chromium (Debian: apt-get install chromium). Ends with 77 where it is
#                                        not installed.
#   tests/run.sh --validation            the ops under the Khronos validation layer, which watches workgroup memory for
#                                        races on the device itself. It comes with Chromium, too; 77 where it is missing.
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
    [ $# -gt 0 ] || set -- --test all -- ops:: special:: fused:: networks::agree --skip sanitize::
    exec cargo test "$@"
fi

# Where the validation layer's library is; nothing where it is not installed.
validation_layer() {
    local file
    for file in /usr/lib/chromium /usr/lib64/chromium-browser /usr/lib/chromium-browser /opt/google/chrome /usr/lib/*/; do
        file="${file%/}/libVkLayer_khronos_validation.so"
        if [ -f "$file" ]; then
            echo "$file"
            return
        fi
    done
}

# Runs a command under the layer; what it reports goes to $layer_folder/reports.
under_validation() {
    : >"$layer_folder/reports"
    VK_ADD_LAYER_PATH="$layer_folder" VK_LAYER_SETTINGS_PATH="$layer_folder" \
        VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation "$@"
}

# The shaders' own checks are off, so that the layer sees what kernels do; convolutions and products are left to the
# training steps, since the layer makes their many variants slow to compile.
validate_kernels() {
    local library network
    library="$(validation_layer)"
    [ -n "$library" ] || { echo "The Khronos validation layer is not installed: nothing was run under it." >&2; exit 77; }
    layer_folder="$(mktemp -d)"
    trap 'rm -rf "$layer_folder"' EXIT
    cat >"$layer_folder/VkLayer_khronos_validation.json" <<MANIFEST
{"file_format_version": "1.2.0", "layer": {"name": "VK_LAYER_KHRONOS_validation", "type": "GLOBAL",
 "library_path": "$library", "api_version": "1.3.0", "implementation_version": "1", "description": "validation"}}
MANIFEST
    cat >"$layer_folder/vk_layer_settings.txt" <<SETTINGS
khronos_validation.gpuav_enable = true
khronos_validation.validate_core = false
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error
khronos_validation.log_filename = $layer_folder/reports
SETTINGS
    export WGRAD_SHADER_CHECKS=off XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
    cargo build --quiet --bin lenet

    echo "A planted race, which the layer must report:"
    under_validation cargo test --test all -- --ignored --exact ops::custom::a_race_for_the_validation_layer
    grep -q DataRace "$layer_folder/reports" || { echo "It was not reported: the layer is no check here." >&2; exit 1; }

    echo "The ops under the validation layer:"
    # The layer may abort as the process ends, after the tests: what they say counts.
    under_validation cargo test --test all -- ops:: fused:: --skip conv2d --skip matmul 2>&1 | tee "$layer_folder/tests" || true
    grep -q "^test result: ok" "$layer_folder/tests" || exit 1
    report_races
    for network in lenet5 resnet; do
        echo "A training step of $network under the validation layer:"
        under_validation cargo run --quiet --bin lenet -- verify --device gpu --network "$network" --batch-size 3 | tail -1
        report_races
    done
}

report_races() {
    if grep -q "Validation Error" "$layer_folder/reports"; then
        head -40 "$layer_folder/reports" >&2
        exit 1
    fi
    echo "The validation layer reports nothing."
}

if [ "${1:-}" = --validation ]; then
    validate_kernels
    exit
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
