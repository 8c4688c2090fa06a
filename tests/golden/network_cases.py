"""Golden values of whole networks: names and shapes of their states, logits, loss and gradients in f64.

Weights and images are not stored: they follow from a formula (`fill`), which tests/all/networks.rs has too.
"""
import json

import numpy as np
import torch
import torch.nn.functional as F

import networks

BATCH, NUM_CLASSES = 3, 5
LAYERS = [
    {"kind": "conv2d", "out_channels": 6, "kernel_size": 3, "padding": 1, "bias": False, "name": "stem"},
    {"kind": "batch_norm2d"},
    {"kind": "leaky_relu", "negative_slope": 0.1},
    {"kind": "residual", "layers": [
        {"kind": "conv2d", "out_channels": 6, "kernel_size": 3, "padding": 1, "groups": 2},
        {"kind": "silu"},
        {"kind": "batch_norm2d"},
    ]},
    {"kind": "residual", "layers": [{"kind": "conv2d", "out_channels": 8, "kernel_size": 2, "stride": 2}],
     "shortcut": [{"kind": "avg_pool2d", "kernel_size": 2},
                  {"kind": "conv2d", "out_channels": 8, "kernel_size": 1, "bias": False}]},
    {"kind": "gelu"},
    {"kind": "max_pool2d", "kernel_size": 2},
    {"kind": "global_avg_pool2d"},
    {"kind": "flatten"},
    {"kind": "linear", "out_features": 7},
    {"kind": "tanh"},
    {"kind": "linear", "name": "fc"},
]
# Networks as wgrad's files have them, with the shape of an image. Values are for small ones only.
CASES = [
    ({"kind": "lenet5"}, [1, 28, 28], True),
    ({"kind": "lenet5", "batch_norm": True}, [3, 20, 16], True),
    ({"kind": "mlp"}, [1, 28, 28], False),
    ({"kind": "mlp", "hidden": [16, 8], "activation": "tanh"}, [2, 5, 4], True),
    ({"kind": "vgg"}, [3, 32, 32], False),
    ({"kind": "vgg", "widths": [4, 6], "convolutions": [1, 2]}, [3, 9, 8], True),
    ({"kind": "vgg", "widths": [4], "convolutions": [2], "batch_norm": False}, [1, 6, 6], True),
    ({"kind": "resnet"}, [3, 32, 32], False),
    ({"kind": "resnet", "depth": 8, "width": 4}, [3, 9, 8], True),
    ({"kind": "resnet", "depth": 14, "width": 4, "shortcut": "B"}, [1, 8, 8], True),
    ({"kind": "all_conv"}, [3, 32, 32], False),
    ({"kind": "all_conv", "width": 4}, [3, 9, 8], True),
    ({"kind": "all_conv", "width": 2, "batch_norm": False}, [1, 6, 6], True),
    ({"kind": "layers", "layers": LAYERS}, [3, 8, 8], True),
]


def cases():
    return [case(*arguments) for arguments in CASES]


def case(network, shape, with_values):
    module = networks.forget_batches(networks.build(network, shape, NUM_CLASSES))
    state = {name: list(tensor.shape) for name, tensor in sorted(module.state_dict().items())}
    found = {"network": network, "shape": shape, "state": state}
    if with_values:
        found |= values(module.double(), shape)
    return found


def values(module, shape):
    state = module.state_dict()
    for index, name in enumerate(sorted(state)):
        state[name] = start(name, index + 1, list(state[name].shape))
    module.load_state_dict(state, strict=True)
    images = torch.from_numpy(fill(0, [BATCH, *shape]))
    labels = torch.arange(BATCH) % NUM_CLASSES
    with torch.no_grad():
        logits = module.eval()(images)
    loss = F.cross_entropy(module.train()(images), labels)
    loss.backward()
    gradients = {name: norm(parameter.grad) for name, parameter in sorted(module.named_parameters())}
    buffers = {name: norm(buffer) for name, buffer in sorted(module.named_buffers())}
    return {"logits": logits.flatten().tolist(), "loss": loss.item(), "gradients": gradients, "buffers": buffers}


def norm(tensor):
    return tensor.detach().square().sum().sqrt().item()


def start(name, index, shape):
    """The start of a state: `index` is its place in the order of names, counted from 1."""
    drawn = fill(index, shape)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return torch.from_numpy(1.0 + drawn)
    if len(shape) == 1:
        return torch.from_numpy(drawn)
    fan_in = int(np.prod(shape[1:]))
    return torch.from_numpy(f32(drawn * (3.0 / fan_in ** 0.5)))


def fill(index, shape):
    """Numbers from -1/2 to 1/2 that f32 holds."""
    place = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (place * np.uint64(2654435761) + np.uint64(index) * np.uint64(40503) + np.uint64(12345)) % np.uint64(1 << 32)
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(2246822519) % np.uint64(1 << 32)
    return ((mixed >> np.uint64(12)).astype(np.float64) / 2 ** 20 - 0.5).reshape(shape)


def f32(values):
    return values.astype(np.float32).astype(np.float64)


def save(path):
    text = ",\n".join(json.dumps(case) for case in cases())
    path.write_text(f"[\n{text}\n]\n")
