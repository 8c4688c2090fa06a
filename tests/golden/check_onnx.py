#!/usr/bin/env python3
"""Checks an ONNX file that wgrad wrote, and compares onnxruntime's logits with PyTorch's for the same weights.

    python tests/golden/check_onnx.py network.onnx --model model.safetensors --data data/fashion-mnist
        [--normalize dataset|half|none]

The file's metadata says which network it is; PyTorch's side is built from that, and must take the weights as they are. Both get the test images of an IDX folder as bytes 0 to 255; the ONNX file normalises them itself, and PyTorch's side with
the constants that wgrad trained with. Batches of several sizes are run, since the number of images is free. With --cifar
the folder holds CIFAR-10's binary version instead. Needs onnx and onnxruntime besides what make.py needs.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file

import networks
from lenet import read_split

# As `Normalize::stats` has them: (mean, standard deviation) for each channel.
CONSTANTS = {
    "fashion-mnist": ([0.2860], [0.3530]),
    "mnist": ([0.1307], [0.3081]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
}
# The largest difference of a logit that rounding in f32 explains, as a share of the largest logit.
TOLERANCE = 1e-5


def main():
    parser = argparse.ArgumentParser(description="Compare an exported network with PyTorch.")
    parser.add_argument("onnx", metavar="FILE.onnx")
    parser.add_argument("--model", required=True, metavar="FILE", help="the weights it was exported from")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder with the data set's official files")
    parser.add_argument("--cifar", action="store_true", help="the folder holds CIFAR-10's binary version")
    parser.add_argument("--normalize", choices=["none", "half", "dataset"], default="dataset")
    args = parser.parse_args()

    model = onnx.load(args.onnx)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    print(f"checked: opset {model.opset_import[0].version}, IR {model.ir_version}, {metadata}")

    images, labels = read_cifar(args.data) if args.cifar else read_split(args.data, "t10k")
    images = images.reshape(len(labels), -1, *images.shape[-2:])
    session = onnxruntime.InferenceSession(args.onnx, providers=["CPUExecutionProvider"])
    run = lambda batch: session.run(["logits"], {"pixels": batch.astype(np.float32)})[0]
    got = np.concatenate([run(images[start:start + 500]) for start in range(0, len(images), 500)])
    for size in (1, 3, 17):
        assert np.allclose(run(images[:size]), got[:size], rtol=1e-4, atol=1e-4), f"a batch of {size} differs"

    want = torch_logits(args, metadata, images)
    difference = np.abs(got - want).max() / np.abs(want).max()
    accuracy = (got.argmax(axis=1) == labels).mean()
    print(f"onnxruntime {onnxruntime.__version__}: accuracy {100 * accuracy:.2f} % on {len(labels)} images, "
          f"largest difference from PyTorch {difference:.1e} of the largest logit")
    if not difference < TOLERANCE:
        sys.exit(f"the logits differ by more than {TOLERANCE}")


@torch.no_grad()
def torch_logits(args, metadata, images):
    constants = {"none": ([0.0], [1.0]), "half": ([0.5], [0.5]), "dataset": CONSTANTS[metadata["dataset"]]}[args.normalize]
    mean, std = (torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1) for values in constants)
    network = networks.build(json.loads(metadata["network"]), images.shape[1:], len(metadata["classes"].split(",")))
    network.load_state_dict(load_file(args.model), strict=True)
    network = network.double().eval()
    batches = (torch.from_numpy(images[start:start + 500].copy()) for start in range(0, len(images), 500))
    return torch.cat([network((batch.double() / 255 - mean) / std) for batch in batches]).numpy()


def read_cifar(folder):
    records = np.frombuffer(pathlib.Path(folder, "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


if __name__ == "__main__":
    main()
