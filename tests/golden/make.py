#!/usr/bin/env python3
"""Writes the golden values that wgrad's tests are held against. See README.md beside this file.

    pip install "torch==2.15.*" safetensors numpy
    python tests/golden/make.py

It reads FashionMNIST's training files from data/fashion-mnist, or from the folder given with --data; the first 3200 images
matter. A rerun writes the same bytes.
"""
import argparse
from collections import Counter
from pathlib import Path

import torch

import casefile
import network_cases
import ops_nn
import ops_tensor
import optim
import training

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description="Write wgrad's golden values.")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "data" / "fashion-mnist",
                        help="folder with FashionMNIST's training files (IDX, gzip)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    args = parser.parse_args()
    if not torch.__version__.startswith("2.15."):
        raise SystemExit(f"The golden values are PyTorch 2.15's; this is {torch.__version__}.")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    for name, cases in [("ops", [*ops_nn.cases(), *ops_tensor.cases()]), ("optim", optim.cases())]:
        path = args.out / f"{name}.safetensors"
        casefile.save(path, cases)
        counts = Counter(case.op for case in cases)
        print(f"{path.name}: {path.stat().st_size} bytes, {len(cases)} cases")
        print("  " + ", ".join(f"{op} {count}" for op, count in counts.items()))

    path = args.out / "networks.json"
    network_cases.save(path)
    print(f"{path.name}: {path.stat().st_size} bytes, {len(network_cases.CASES)} networks")

    tensors, descriptions, drift = training.runs(args.data)
    path = args.out / "lenet_steps.safetensors"
    casefile.save_tensors(path, tensors, descriptions)
    print(f"{path.name}: {path.stat().st_size} bytes\n")
    print(*training.DRIFT_HEADER, *drift, sep="\n")


if __name__ == "__main__":
    main()
