"""LeNet-5 as wgrad builds it, and the reader of IDX files. Shared by `make.py` and `check_model.py`."""
import gzip
import math
from pathlib import Path

import numpy as np
from torch import nn
import torch.nn.functional as F


class LeNet(nn.Module):
    """input (N, in_channels, size, size) → logits (N, 10). With `batch_norm`, bn1 stands between conv1 and its ReLU."""

    def __init__(self, in_channels=1, size=28, batch_norm=False):
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.bn1 = nn.BatchNorm2d(6) if batch_norm else nn.Identity()

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def read_idx(folder, name):
    """A gzip'd IDX file of bytes, as an array of the shape its header gives."""
    path = Path(folder) / name
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise SystemExit(f"{path}: not an IDX file of unsigned bytes")
    header = 4 + 4 * raw[3]
    shape = np.frombuffer(raw, ">u4", raw[3], 4).tolist()
    if len(raw) != header + math.prod(shape):
        raise SystemExit(f"{path}: {len(raw)} bytes, but its header says shape {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def read_split(folder, stem):
    """(images (N, 1, H, W) u8, labels (N) u8) of "train" or "t10k"."""
    images = read_idx(folder, f"{stem}-images-idx3-ubyte.gz")
    labels = read_idx(folder, f"{stem}-labels-idx1-ubyte.gz")
    if len(images) != len(labels):
        raise SystemExit(f"{folder}: {len(images)} {stem} images but {len(labels)} labels")
    return images[:, None], labels
