#!/usr/bin/env bash
# Makes the README's pictures anew: trains LeNet-5 on the included images, and keeps what the report shows.
# `report.png` needs Chromium; without it that one stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
images="$PWD/docs/images"

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
cargo run --release --bin lenet -- train --device cpu --seed 0 --lr 0.05 --batch-size 32 --out "$out" --name readme
run="$(ls -d "$out"/*/)"
cp "$run/pictures/curves.png" "$images/curves.png"

chromium="$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)"
if [ -z "$chromium" ]; then
    echo "Chromium is not installed: docs/images/report.png was not made anew."
    exit
fi
"$chromium" --headless --no-sandbox --hide-scrollbars --window-size=1100,1400 --screenshot="$images/report.png" \
    "file://$run/report.html" 2>/dev/null
