"""One golden file: cases, each a set of named tensors and a line of description.

`Case` draws inputs, runs a PyTorch function on them and records inputs, outputs and gradients. `save` writes
safetensors with `<case>/<name>` keys; the descriptions go as a JSON list under the metadata key `cases`.
"""
import json
import zlib

import numpy as np
import torch
from safetensors.numpy import save_file


class Case:
    """One call of one op. The random stream depends on the case's name only, so cases can be added or reordered."""

    def __init__(self, name, op, **attrs):
        self.name, self.op, self.attrs = name, op, attrs
        self.inputs, self.outputs, self.grads, self.tensors = [], [], [], {}
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.leaves = {}

    # Floats are drawn as f32 and widened, so that f32 and f64 implementations start from the same numbers.
    def normal(self, *shape, scale=1.0, mean=0.0):
        return f32_values(self.rng.normal(mean, scale, shape))

    def uniform(self, low, high, *shape):
        return f32_values(self.rng.uniform(low, high, shape))

    def quantised(self, low, high, *shape):
        """Small whole numbers, low to high inclusive: many exact ties."""
        return self.rng.integers(low, high + 1, shape).astype(np.float64)

    def labels(self, num_classes, *shape):
        return self.rng.integers(0, num_classes, shape)

    def input(self, name, values, grad=True):
        """Records an input and returns it as a tensor, a leaf whose gradient is recorded if `grad`."""
        values = np.asarray(values)
        if values.dtype.kind == "f":
            values = f32_values(values)
        tensor = torch.tensor(values)
        self.inputs.append(name)
        self.put(name, tensor)
        if grad and values.dtype.kind == "f":
            self.leaves[name] = tensor.requires_grad_()
        return tensor

    def output(self, name, tensor):
        self.outputs.append(name)
        self.put(name, tensor)

    def result(self, output):
        """Records the differentiable output, a random grad_output, and the gradients of sum(output * grad_output)."""
        self.output("output", output)
        if self.leaves:
            grad_output = torch.from_numpy(self.normal(*output.shape))
            self.put("grad_output", grad_output)
            for name, grad in zip(self.leaves, torch.autograd.grad(output, list(self.leaves.values()), grad_output)):
                self.grads.append(f"grad_{name}")
                self.put(f"grad_{name}", grad)
        return self

    def put(self, name, tensor):
        assert name not in self.tensors, (self.name, name)
        array = tensor.detach().numpy()
        # Integers (labels, indices) are never negative here and are stored as u32.
        if array.dtype.kind == "i":
            assert array.size == 0 or array.min() >= 0, (self.name, name)
            array = array.astype(np.uint32)
        assert array.dtype in (np.float64, np.uint32), (self.name, name, array.dtype)
        self.tensors[name] = array.copy()

    def description(self):
        return {"name": self.name, "op": self.op, "attrs": self.attrs,
                "inputs": self.inputs, "outputs": self.outputs, "grads": self.grads}


def f32_values(values):
    return np.asarray(values, np.float64).astype(np.float32).astype(np.float64)


def save(path, cases):
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "case names repeat"
    tensors = {f"{case.name}/{name}": array for case in cases for name, array in case.tensors.items()}
    save_tensors(path, tensors, [case.description() for case in cases])


def save_tensors(path, tensors, descriptions):
    # A single metadata key: with several, safetensors writes them in an order that changes from run to run.
    # C-ordered copies, because safetensors writes the memory as it lies, ignoring strides.
    tensors = {key: np.array(array, order="C", copy=True) for key, array in tensors.items()}
    save_file(tensors, path, metadata={"cases": json.dumps(descriptions, allow_nan=False)})
