#!/usr/bin/env python3
"""Writes special.json: what PyTorch gives, in f32, for NaN, infinities, -0.0, subnormals and the largest floats.

    pip install "torch==2.15.*" numpy
    python tests/golden/special.py

Numbers are the bits of f32 as integers, with one pattern for every NaN. `values`: the operands of a unary op; of a binary
op, every pair of `pairs`. `grads`: the gradients from above that each is tried with. An op's `outputs` has an element for
each operand (pair), and each of its `gradients`, one for each operand, the same for each of `grads` in turn. `rows` are
cases of ops that work on whole rows.
"""
import json
import struct
from pathlib import Path

import torch
import torch.nn.functional as F

NAN, INF = float("nan"), float("inf")
LARGEST, NORMAL, SUBNORMAL = 3.4028234663852886e38, 1.1754943508222875e-38, 1e-40
VALUES = [NAN, INF, -INF, 0.0, -0.0, SUBNORMAL, -SUBNORMAL, NORMAL, -NORMAL, LARGEST, -LARGEST, 1.0, -1.0, 0.5, -0.5, 2.0,
          -3.0, 1e-8, -1e-8, 20.0, -20.0, 88.5, -88.5, 1e20, -1e20]
PAIRS = [NAN, INF, -INF, 0.0, -0.0, SUBNORMAL, -SUBNORMAL, LARGEST, -LARGEST, 1.0, 0.5, 2.0, -3.0]
GRADS = [1.0, NAN, INF]


def bits(tensor):
    patterns = [struct.unpack("<I", struct.pack("<f", x))[0] for x in tensor.detach().reshape(-1).tolist()]
    return [0x7FC00000 if p & 0x7FFFFFFF > 0x7F800000 else p for p in patterns]


def case(function, operands, grads=GRADS):
    operands = [operand.clone().requires_grad_() for operand in operands]
    output = function(*operands)
    record = {"outputs": bits(output)}
    if output.requires_grad:
        above = [torch.full_like(output, grad) for grad in grads]
        gradients = [torch.autograd.grad(output, operands, grad, retain_graph=True) for grad in above]
        record["gradients"] = [sum((bits(gradient[i]) for gradient in gradients), []) for i in range(len(operands))]
    return record


UNARY = {
    "neg": torch.neg, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "abs": torch.abs, "square": torch.square,
    "reciprocal": torch.reciprocal, "relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.25), "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "gelu": lambda x: F.gelu(x.double()).float(),  # in f32 it is off by 1.3e-4 at −3 and NaN at ∞
     "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu,
    "softplus": F.softplus, "clamp": lambda x: torch.clamp(x, -0.75, 0.75), "add_scalar": lambda x: x + 1.5,
    "mul_scalar": lambda x: x * -1.5, "pow_2": lambda x: x ** 2.0, "pow_3": lambda x: x ** 3.0,
    "pow_half": lambda x: x ** 0.5, "pow_minus_2": lambda x: x ** -2.0, "pow_minus_3": lambda x: x ** -3.0,
    "pow_0": lambda x: x ** 0.0, "pow_1": lambda x: x ** 1.0, "sign": torch.sign,
}
BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow, "minimum": torch.minimum,
    "maximum": torch.maximum, "mse_loss": lambda x, y: F.mse_loss(x, y, reduction="none"),
    "l1_loss": lambda x, y: F.l1_loss(x, y, reduction="none"),
    "bce_with_logits": lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none"),
}
COMPARISONS = {"equal": lambda a, b: (a == b).float(), "greater": lambda a, b: (a > b).float()}

# Rows of four, every special value in every place.
ROWS = [[1.0, 2.0, 3.0, -1.0], [NAN, 1.0, 2.0, 0.5], [1.0, NAN, 2.0, 0.5], [3.0, 1.0, 2.0, NAN], [NAN, NAN, 1.0, NAN],
        [INF, 1.0, 2.0, 3.0], [1.0, 2.0, INF, 3.0], [INF, INF, 1.0, 2.0], [-INF, 1.0, 2.0, 3.0], [1.0, -INF, -INF, 3.0],
        [-INF] * 4, [INF, -INF, 1.0, 2.0], [INF, NAN, 1.0, -INF], [-INF, NAN, -INF, -INF], [LARGEST, 1.0, -LARGEST, 0.0],
        [-LARGEST] * 4, [LARGEST, LARGEST, 1.0, 0.0], [0.0, -0.0, 0.0, -0.0], [-0.0, -1.0, -2.0, -0.0],
        [SUBNORMAL, -SUBNORMAL, 0.0, -1.0], [NAN, -INF, -INF, INF]]
LABELS = [1, 0, 1, 2, 3, 0, 0, 1, 0, 1, 2, 2, 0, 1, 0, 3, 2, 1, 0, 3, 2]


def rows():
    x = torch.tensor(ROWS)
    labels = torch.tensor(LABELS)
    grads = [1.0, NAN]
    names = {
        "sum": lambda x: x.sum(1), "mean": lambda x: x.mean(1), "amax": lambda x: x.amax(1),
        "softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(1),
        "max_pool2d": lambda x: F.max_pool2d(x.reshape(1, -1, 2, 2), 2),
        "avg_pool2d": lambda x: F.avg_pool2d(x.reshape(1, -1, 2, 2), 2),
        "cross_entropy": lambda x: F.cross_entropy(x, labels, reduction="none"),
        "cross_entropy_smooth": lambda x: F.cross_entropy(x, labels, reduction="none", label_smoothing=0.25),
        "nll_loss": lambda x: F.nll_loss(x, labels, reduction="none"),
        "batch_norm2d": lambda x: F.batch_norm(x.reshape(1, -1, 2, 2), None, None, training=True),
    }
    cases = {name: case(function, [x], grads) for name, function in names.items()}
    cases["argmax"] = {"outputs": x.argmax(1).tolist()}
    cases["max_pool2d_indices"] = {"outputs": F.max_pool2d(x.reshape(1, -1, 2, 2), 2, return_indices=True)[1].reshape(-1).tolist()}
    return {"x": bits(x), "labels": LABELS, "grads": bits(torch.tensor(grads)), "cases": cases}


def main():
    torch.set_num_threads(1)
    values = torch.tensor(VALUES)
    a, b = (operand.reshape(-1) for operand in torch.meshgrid(torch.tensor(PAIRS), torch.tensor(PAIRS), indexing="ij"))
    golden = {
        "values": bits(values), "pairs": bits(torch.tensor(PAIRS)), "grads": bits(torch.tensor(GRADS)),
        "unary": {name: case(function, [values]) for name, function in UNARY.items()},
        "binary": {name: case(function, [a, b]) for name, function in BINARY.items()}
        | {name: {"outputs": bits(function(a, b))} for name, function in COMPARISONS.items()},
        "rows": rows(),
    }
    path = Path(__file__).resolve().parent / "special.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
