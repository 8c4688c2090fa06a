#!/usr/bin/env bash
# Makes the pictures of the README and of docs/machines.md anew: trains LeNet-5 on the included images and keeps the curves of
# its report, and predicts the speed of ResNet-20 on many ranks.
set -euo pipefail
cd "$(dirname "$0")/../.."

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
cargo run --release --bin lenet -- train --device cpu --data data/fashion-mnist --seed 0 --out "$out" --name readme
cp "$out"/*/pictures/curves.png docs/images/curves.png
cargo run --release --bin lenet -- plan --network resnet --depth 20 --dataset cifar10 --batch-size 32 --accumulate 32 \
    --ranks 1024 --network-latency 2 --bandwidth 12.5 --picture docs/images/scaling.png
