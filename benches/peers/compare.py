#!/usr/bin/env python3
"""Trains LeNet-5 with wgrad and with PyTorch in turn, on the same data, and prints images a second and their ratio.

    cargo build --release --bin lenet
    python3 benches/peers/compare.py --rounds 5

Machines drift, so the two alternate and the ratio is taken round by round. PyTorch runs under --python, which may be
the interpreter of another environment; it needs torch and numpy. --devices names what wgrad runs on.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def speeds(command):
    """Images a second of every epoch but the first, which also warms up."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    values = [row["images_per_second"] for row in rows if "images_per_second" in row]
    return values[1:] or values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--devices", nargs="+", default=["cpu"])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--lenet", type=pathlib.Path, default=ROOT / "target" / "release" / "lenet")
    args = parser.parse_args()
    sizes = ["--epochs", str(args.epochs), "--batch-size", str(args.batch_size)]
    torch_command = [args.python, ROOT / "benches" / "peers" / "torch_lenet.py", *sizes]
    results = {name: [] for name in ["torch", *args.devices]}
    with tempfile.TemporaryDirectory() as runs:
        for round_index in range(args.rounds):
            results["torch"].append(statistics.median(speeds(torch_command)))
            for device in args.devices:
                command = [args.lenet, "train", "--json", "--device", device, "--out", runs, "--val-split", "0",
                           "--no-early-stopping", "--no-report",
                           "--data", ROOT / "data" / "fashion-mnist", *sizes]
                results[device].append(statistics.median(speeds(command)))
            row = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in results.items())
            print(f"round {round_index + 1}: {row} images/s", flush=True)
    for name, values in results.items():
        ratios = [ours / theirs for ours, theirs in zip(values, results["torch"])]
        print(f"{name:>12}: median {statistics.median(values):>9,.0f} images/s, best {max(values):>9,.0f}, "
              f"{statistics.median(ratios):.2f} x torch (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
