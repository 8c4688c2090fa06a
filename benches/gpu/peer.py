#!/usr/bin/env python3
"""PyTorch's side of benches/gpu/run: takes `work mode` on each line of its input and answers with seconds, as wgrad's side.

Modes: eager, as PyTorch comes: TF32 in convolutions, not in products; tf32, eager with TF32 in both; fp32, eager with it in
neither; compile, `torch.compile`; graph, a CUDA graph of the step.
"""

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cuda"
ROUND = 0.2


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def rand(*shape):
    return torch.rand(*shape, device=DEVICE) * 2 - 1


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )


class Block(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.stride, self.more = stride, out - channels

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        skip = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(skip, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)))


def resnet20():
    layers, channels = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for out in (16, 32, 64):
        for index in range(3):
            layers.append(Block(channels, out, 2 if index == 0 and out != 16 else 1))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def training(model, images, mode):
    model = model.to(DEVICE)
    labels = torch.randint(0, 10, (len(images),), device=DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, foreach=True)

    def step():
        optimizer.zero_grad(set_to_none=mode != "graph")
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    if mode == "compile":
        compiled = torch.compile(step, mode="reduce-overhead" if DEVICE == "cuda" else None)

        def marked():
            # Its CUDA graphs lend out their memory until the next step begins.
            torch.compiler.cudagraph_mark_step_begin()
            compiled()

        return marked
    if mode != "graph":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay():
        graph.replay()

    # A graph owns nothing of what it reads: the batch and the model live as long as the step does.
    replay.step = step
    return replay


def work(line):
    name, *rest, mode = line.split()
    sizes = [int(size) for size in rest]
    if name in ("matmul", "gemm"):
        m, n, k = sizes if name == "gemm" else 3 * sizes
        a, b = rand(m, k), rand(k, n)
        return lambda: torch.matmul(a, b)
    if name == "softmax":
        x = rand(*sizes)
        return lambda: torch.softmax(x, 1)
    if name == "conv":
        batch, channels, out, extent, kernel, stride = sizes
        x, weight = rand(batch, channels, extent, extent).requires_grad_(), rand(out, channels, kernel, kernel).requires_grad_()

        def run():
            x.grad = weight.grad = None
            F.conv2d(x, weight, None, stride, kernel // 2).square().sum().backward()
        return run
    if name == "fused":
        return training(lenet(), rand(sizes[0], 1, 28, 28), mode)
    if name == "resnet":
        return training(resnet20(), rand(sizes[0], 3, 32, 32), mode)
    raise ValueError(f"there is no work {line}")


def set_precision(mode):
    """PyTorch's defaults but for `tf32`, products too, and `fp32`, convolutions neither. Both hold for all that runs from here on."""
    torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
    torch.backends.cudnn.allow_tf32 = mode != "fp32"


def answer(run):
    for _ in range(3):
        run()
    wait()
    started = time.perf_counter()
    run()
    wait()
    runs = max(1, int(2e-2 / max(time.perf_counter() - started, 1e-7)))
    started, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - started < ROUND:
        before = time.perf_counter()
        for _ in range(runs):
            run()
        wait()
        times.append((time.perf_counter() - before) / runs)
    return statistics.median(times)


def main():
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    print(f"PyTorch {torch.__version__} on {name}", flush=True)
    works = {}
    for line in sys.stdin:
        line = line.strip()
        try:
            set_precision(line.split()[-1])
            if line not in works:
                works[line] = work(line)
            print(f"{answer(works[line]):e}", flush=True)
        except Exception as error:  # One work that fails must not end the day.
            print(f"failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}", flush=True)


if __name__ == "__main__":
    main()
