#!/usr/bin/env python3
"""One rank of LeNet-5 on the bundled FashionMNIST under PyTorch DistributedDataParallel with gloo, one thread.

Takes its place from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Rank 0 prints images a second of each epoch after the
first as JSON. The batch is divided evenly, as DDP does.
"""
import argparse
import json
import os
import pathlib
import sys
import time

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
from torch_lenet import BUNDLED, load  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    x, y = load(BUNDLED, "train")
    x, y = x[: args.images], y[: args.images]
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )
    model = nn.parallel.DistributedDataParallel(model)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    rates = []
    for epoch in range(args.epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        dist.barrier()
        started = time.perf_counter()
        for batch in order.split(args.batch_size):
            own = batch.tensor_split(size)[rank]
            optimizer.zero_grad()
            loss_function(model(x[own]), y[own]).backward()
            optimizer.step()
        rates.append(len(x) / (time.perf_counter() - started))
    if rank == 0:
        print(json.dumps(rates[1:]), flush=True)
    dist.barrier()
    # Without the interpreter's end: gloo's threads may outlive the group, and then abort the process.
    os._exit(0)


if __name__ == "__main__":
    if "RANK" not in os.environ:
        sys.exit("start it by benches/mpi/run")
    main()
