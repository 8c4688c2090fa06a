"""Golden training runs: LeNet-5 from a stored start over fixed batches, in f32 and in f64."""
import numpy as np
import torch
import torch.nn.functional as F

from lenet import LeNet, read_split

LR, MOMENTUM = 0.01, 0.9
# From this start the loss leaves its plateau within the 100 steps, and none of the f32 summation orders below meets a
# near-tie (ReLU or pooling) that f32 decides one way and f64 the other; see the README.
SEED = 6
NUM_SHUFFLES = 8
DRIFT_HEADER = ["| run | against f64 | steps | f64 loss, first → last | loss, max abs | loss, max relative "
                "| final weights, max abs | step-0 gradients, max relative |",
                "| --- | --- | --- | --- | --- | --- | --- | --- |"]
SMALL_ELEMS = 2400  # step-0 gradients up to this size are stored as f64, larger ones as f32


def runs(data_dir):
    """(tensors, descriptions, lines of the drift table)."""
    images, labels = read_split(data_dir, "train")
    images, labels = images[:3200].reshape(100, 32, 1, 28, 28), labels[:3200].reshape(100, 32)
    rng = np.random.default_rng(SEED)
    noise = rng.integers(0, 256, (5, 8, 3, 32, 32), np.uint8)
    noise_labels = rng.integers(0, 10, (5, 8)).astype(np.uint8)
    rows = [  # name, key prefix, arguments of LeNet, images, labels
        ("lenet", "", {}, images, labels),
        ("lenet_batch_norm", "batch_norm/", {"batch_norm": True}, images[:20], labels[:20]),
        ("lenet_cifar", "cifar/", {"in_channels": 3, "size": 32}, noise, noise_labels),
    ]
    tensors, descriptions, drift = {}, [], []
    for name, prefix, arguments, x, y in rows:
        found, lines = run(name, arguments, x, y)
        if prefix == "cifar/":
            found["images"] = x
        found["labels"] = y.astype(np.uint32)
        tensors |= {prefix + key: array for key, array in found.items()}
        descriptions.append(describe(name, prefix, arguments, x, found))
        drift += lines
    return tensors, descriptions, drift


def run(name, arguments, images, labels):
    torch.manual_seed(SEED)
    start = {key: value.clone() for key, value in LeNet(**arguments).state_dict().items()
             if not key.endswith("num_batches_tracked")}
    f64 = train(arguments, start, images, labels, torch.float64)
    f32 = train(arguments, start, images, labels, torch.float32)
    torch.backends.mkldnn.enabled = False
    plain_f32 = train(arguments, start, images, labels, torch.float32)
    torch.backends.mkldnn.enabled = True
    # The same f32 run with its sums in other orders: how much of the distance is chance.
    rng = np.random.default_rng(SEED)
    shuffled = [train(arguments, start, *shuffle_within_batches(rng, images, labels), torch.float32)
                for _ in range(NUM_SHUFFLES)]
    worst = max(shuffled, key=lambda run: abs(run.losses - f64.losses).max())

    found = {"losses_f64": f64.losses, "losses_f32": f32.losses.astype(np.float32)}
    found |= {f"init/{key}": value.numpy() for key, value in start.items()}
    found |= {f"final/{key}": value.numpy().astype(np.float32) for key, value in f64.state.items()}
    found |= {f"grad0/{key}": g.numpy().astype(np.float64 if g.numel() <= SMALL_ELEMS else np.float32)
              for key, g in f64.grad0.items()}
    lines = [drift_line(name, "f32", f32, f64), drift_line(name, "f32, without oneDNN", plain_f32, f64),
             drift_line(name, f"f32, worst of {NUM_SHUFFLES} shuffles", worst, f64)]
    return found, lines


def shuffle_within_batches(rng, images, labels):
    orders = [rng.permutation(images.shape[1]) for _ in images]
    return [np.stack([batch[order] for batch, order in zip(array, orders)]) for array in (images, labels)]


class Run:
    """losses (steps) f64, the final state dict, and the gradients of step 0."""


def train(arguments, start, images, labels, dtype):
    model = LeNet(**arguments)
    model.load_state_dict(start, strict=False)
    model.to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM, foreach=False)
    result, losses = Run(), []
    for x, y in zip(images, labels):
        # Pixels are u8 / 255 rounded to f32 in both runs, so that they start from the same numbers.
        x = (torch.from_numpy(x.copy()).to(torch.float32) / 255).to(dtype)
        loss = F.cross_entropy(model(x), torch.from_numpy(y.astype(np.int64)))
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            result.grad0 = {key: param.grad.clone() for key, param in model.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    result.losses = np.array(losses)
    result.state = {key: value.clone() for key, value in model.state_dict().items()
                    if not key.endswith("num_batches_tracked")}
    return result


def drift_line(name, what, run, reference):
    absolute = abs(run.losses - reference.losses)
    relative = absolute / reference.losses
    weights = {key: (run.state[key].double() - value).abs().max().item() for key, value in reference.state.items()}
    worst = max(weights, key=weights.get)
    # A bias in front of batch norm has no gradient but rounding noise: nothing to be relative to.
    grads = max(((run.grad0[key].double() - g).norm() / g.norm()).item()
                for key, g in reference.grad0.items() if g.norm() > 1e-12)
    first, last = reference.losses[[0, -1]]
    return (f"| {name} | {what} | {len(absolute)} | {first:.6f} → {last:.6f} "
            f"| {absolute.max():.1e} (step {absolute.argmax()}) | {relative.max():.1e} (step {relative.argmax()}) "
            f"| {weights[worst]:.1e} ({worst}) | {grads:.1e} |")


def describe(name, prefix, arguments, images, found):
    attrs = {"prefix": prefix, "steps": images.shape[0], "batch": images.shape[1], "channels": images.shape[2],
             "size": images.shape[3], "batch_norm": arguments.get("batch_norm", False), "optimizer": "sgd", "lr": LR,
             "momentum": MOMENTUM, "image_byte_sum": int(images.sum(dtype=np.int64)), "seed": SEED}
    inputs = [key for key in found if key.startswith("init/") or key in ("images", "labels")]
    outputs = [key for key in found if key.startswith(("final/", "losses_"))]
    grads = [key for key in found if key.startswith("grad0/")]
    return {"name": name, "op": "train", "attrs": attrs, "inputs": inputs, "outputs": outputs, "grads": grads}
