"""Encoded images to training views in Python, as torchvision's datasets do it on PIL images.

    python benches/torchvision_style.py FOLDER [--size 224] [--repeat 1] [--seed 0]

Decodes each image of FOLDER and its subfolders, takes a RandomResizedCrop (scale 0.08-1,
ratio 3/4-4/3, bicubic) and a horizontal flip with probability 1/2, in one thread. Files are read
into memory before the clock starts. Prints one JSON object: samples per second, CPU-seconds per
1,000 samples, and the process's peak memory. Needs only Pillow: torchvision's rules are restated
here, and its next step, a tensor per image, is left out.
"""

import argparse
import io
import json
import math
import random
import resource
import time
from pathlib import Path

import PIL
from PIL import Image


def random_window(width, height, rng, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Returns left, top, right and bottom of the crop."""
    log_ratio = [math.log(r) for r in ratio]
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*log_ratio))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.randint(0, height - h), rng.randint(0, width - w)
            return left, top, left + w, top + h
    w = min(width, round(height * ratio[1]))
    h = min(height, round(width / ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def training_view(data, size, rng):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = image.crop(random_window(*image.size, rng))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    kinds = {".jpg", ".jpeg", ".png", ".webp"}
    paths = sorted(p for p in arguments.folder.rglob("*") if p.suffix.lower() in kinds)
    if not paths:
        parser.error(f"no images in {arguments.folder}")
    files = [path.read_bytes() for path in paths]
    rng = random.Random(arguments.seed)
    training_view(files[0], arguments.size, rng)  # Imports and tables, outside the clock.

    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(arguments.repeat):
        for data in files:
            training_view(data, arguments.size, rng)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    samples = arguments.repeat * len(files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    measured = {
        "pillow": PIL.__version__,
        "samples": samples,
        "samples_per_sec": round(samples / wall, 1),
        "samples_per_cpu_sec": round(samples / cpu, 1),
        "cpu_secs_per_1000": round(1000 * cpu / samples, 3),
        "peak_rss_bytes": peak,
        "encoded_bytes": sum(map(len, files)),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
