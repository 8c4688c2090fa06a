#!/usr/bin/env python3
"""The work of `lenet train` in PyTorch on the CPU: LeNet-5 on FashionMNIST, batches taken from one tensor.

Prints one JSON object an epoch: epoch, train_loss, val_loss, val_accuracy, images_per_second (training alone).
Needs torch and numpy. `compare.py` beside it runs this and wgrad in turn.
"""
import argparse
import gzip
import json
import pathlib
import time

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
BUNDLED = HERE.parent.parent / "data" / "fashion-mnist"


def read_idx(path, header_bytes):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header_bytes)


def load(folder, stem):
    labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz", 8)
    images = read_idx(folder / f"{stem}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    # ToTensor, then Normalize with the data set's mean and standard deviation.
    images = (images.astype(np.float32) / 255.0 - 0.2860) / 0.3530
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=BUNDLED)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves PyTorch's choice")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    (x, y), (x_test, y_test) = load(args.data, "train"), load(args.data, "t10k")
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    for epoch in range(1, args.epochs + 1):
        started, total = time.perf_counter(), torch.zeros(())
        for batch in torch.randperm(len(x)).split(args.batch_size):
            optimizer.zero_grad()
            loss = loss_function(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
        train_loss = float(total) / len(x)
        seconds = time.perf_counter() - started
        with torch.no_grad():
            logits = torch.cat([model(part) for part in x_test.split(1000)])
        print(json.dumps({
            "epoch": epoch,
            "train_loss": train_loss,
            "val_loss": loss_function(logits, y_test).item(),
            "val_accuracy": (logits.argmax(1) == y_test).float().mean().item(),
            "images_per_second": len(x) / seconds,
        }), flush=True)


if __name__ == "__main__":
    main()
