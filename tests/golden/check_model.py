#!/usr/bin/env python3
"""Loads a model that wgrad wrote into the same PyTorch network and prints its test loss and accuracy.

    python tests/golden/check_model.py model.safetensors --data data/fashion-mnist

The file's metadata says which network it is, and how pixels were normalized. The state dict must fit exactly (strict).
PyTorch adds num_batches_tracked, which wgrad does not store, by itself.
"""
import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

import networks
from lenet import read_split


def main():
    parser = argparse.ArgumentParser(description="Evaluate a wgrad model with PyTorch.")
    parser.add_argument("model", metavar="MODEL", help="model.safetensors")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of IDX .gz files")
    args = parser.parse_args()

    images, labels = read_split(args.data, "t10k")
    with safe_open(args.model, "pt") as file:
        about = json.loads(file.metadata()["about"])
    model = networks.build(about["network"], images.shape[1:], len(about["classes"]))
    model.load_state_dict(load_file(args.model), strict=True)
    model.eval()

    normalize = about.get("normalize") or {"mean": [0.0], "std": [1.0]}
    mean, std = (torch.tensor(normalize[key]).reshape(-1, 1, 1) for key in ("mean", "std"))
    loss, correct = evaluate(model, images, labels, mean, std)
    print(f"test loss {loss:.6f}, accuracy {100 * correct / len(labels):.2f} % ({correct} of {len(labels)})")


@torch.no_grad()
def evaluate(model, images, labels, mean, std):
    """(mean loss over all images, number classified correctly)."""
    loss, correct = 0.0, 0
    for start in range(0, len(labels), 1000):
        x = (torch.from_numpy(images[start:start + 1000].copy()).float() / 255 - mean) / std
        y = torch.from_numpy(labels[start:start + 1000].astype(np.int64))
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(dim=1) == y).sum().item()
    return loss / len(labels), correct


if __name__ == "__main__":
    main()
