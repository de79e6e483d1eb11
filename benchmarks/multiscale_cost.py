"""Measure the time that the multiscale loss adds to a training step.

    KERAS_BACKEND=torch python benchmarks/multiscale_cost.py

Two models of the same network, one with the plain and one with the multiscale
loss, take their steps in turn in one process; the ratio is that of the median
times.
"""

import argparse
import json
import platform
import time

import keras
import numpy as np

import keras_simple_diffusion as ksd


def make_model(base_size, image_size):
    backbone = ksd.models.UViTBackbone(
        (image_size, image_size, 3),
        (32, 64, 256),
        (2, 2, 6),
        embedding_dim=256,
        downsampling="dwt",
    )
    loss = ksd.losses.DiffusionLoss(base_size=base_size)
    return ksd.models.DiffusionModel(backbone, loss=loss)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (args.batch_size, args.image_size, args.image_size, 3)
    images = rng.integers(0, 256, shape).astype("uint8")
    models = {size: make_model(size, args.image_size) for size in (None, 32)}
    seconds = {size: [] for size in models}
    for round_index in range(args.rounds + 2):
        # Each goes first half of the time.
        for size in sorted(models, key=str, reverse=round_index % 2):
            start = time.perf_counter()
            float(models[size].train_on_batch(images))
            if round_index >= 2:
                seconds[size].append(time.perf_counter() - start)
    plain, multiscale = (np.median(seconds[size]) for size in (None, 32))
    ratios = np.array(seconds[32]) / np.array(seconds[None])
    report = {
        "backend": keras.config.backend(),
        "plain_ms": round(1000 * plain, 1),
        "multiscale_ms": round(1000 * multiscale, 1),
        "ratio_of_medians": round(multiscale / plain, 4),
        "quartiles_of_ratios": np.quantile(ratios, [0.25, 0.75])
        .round(4)
        .tolist(),
        **vars(args),
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
