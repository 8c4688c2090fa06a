"""Reads the event files of a run with TensorBoard's own reader and prints what they hold.

    python -m venv venv && venv/bin/pip install tensorboard pillow
    venv/bin/python tests/golden/check_tensorboard.py runs/<run>/tensorboard

Ends with 1 where a scalar is missing an epoch or is not finite, a histogram's buckets do not add up to its count, or a
picture is not a PNG of the size that the event says.
"""

import io
import math
import struct
import sys

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EVERYTHING = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}


def check(condition, message):
    if not condition:
        sys.exit(f"wrong: {message}")


def main(folder):
    events = EventAccumulator(folder, size_guidance=EVERYTHING)
    events.Reload()
    tags = events.Tags()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    histograms = {tag: [(e.step, e.histogram_value) for e in events.Histograms(tag)] for tag in tags["histograms"]}
    images = {tag: [(e.step, e) for e in events.Images(tag)] for tag in tags["images"]}
    print(f"{len(scalars)} scalars, {len(histograms)} histograms, {len(images)} pictures")

    for tag in ("loss/train", "loss/validation", "accuracy/train", "accuracy/validation", "learning_rate"):
        check(tag in scalars, f"no scalar {tag}")
        steps = [step for step, _ in scalars[tag]]
        check(steps == list(range(1, len(steps) + 1)), f"{tag} has steps {steps}")
        check(all(math.isfinite(value) for _, value in scalars[tag]), f"{tag} is not finite")
        print(f"  {tag}: {[round(value, 4) for _, value in scalars[tag]]}")

    check(any(tag.startswith("weights/") for tag in histograms), "no histogram of weights")
    check(any(tag.startswith("gradients/") for tag in histograms), "no histogram of gradients")
    for tag, values in histograms.items():
        for _, value in values:
            check(sum(value.bucket) == value.num, f"{tag}: buckets {sum(value.bucket)}, count {value.num}")
            check(list(value.bucket_limit) == sorted(value.bucket_limit), f"{tag}: limits do not rise")
            check(value.min <= value.max, f"{tag}: {value.min} to {value.max}")

    check(images, "no picture")
    for tag, values in images.items():
        for _, value in values:
            data = value.encoded_image_string
            check(data[:8] == b"\x89PNG\r\n\x1a\n", f"{tag} is not a PNG")
            check(struct.unpack(">II", data[16:24]) == (value.width, value.height), f"{tag} has another size")
            Image.open(io.BytesIO(data)).load()
            print(f"  {tag}: {value.width}x{value.height}, {len(data)} bytes")
    print("all right")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
