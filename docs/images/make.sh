#!/usr/bin/env bash
# Makes the README's picture anew: trains LeNet-5 on the included images, and keeps the curves of its report.
set -euo pipefail
cd "$(dirname "$0")/../.."

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
cargo run --release --bin lenet -- train --device cpu --data data/fashion-mnist --seed 0 --out "$out" --name readme
cp "$out"/*/pictures/curves.png docs/images/curves.png
