"""Measure how the time of a training step grows with the arithmetic.

    KERAS_BACKEND=jax python benchmarks/growth.py --output docs

The small U-ViT of `contest.py` grows in one way at a time: images per step,
size of the images (with the wavelet in front, so that the network below
stays the same), transformer blocks, width of the transformer. All networks are
in one process and take turns. One plot each: seconds of a step, the
multiply-accumulates at the rate of the series' best point, and the seconds of
the first step, which compiles. `--scale 4` takes networks for a GPU.
"""

import argparse
import json
import pathlib
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
from contenders import Setting
from contenders import library
from contest import NETWORKS


def series(scale):
    """Names, and lists of (label, batch size, network)."""
    small = NETWORKS["uvit_small"]
    *widths, width = (scale * c for c in small["channels"])
    base = {**small, "channels": (*widths, width)}
    *blocks, depth = base["blocks"]
    size = base["image_shape"][0]

    def resolution(factor):
        shape = (factor * size, factor * size, 3)
        dwt = {"downsampling": "dwt", "downsampling_factor": factor}
        return {**base, "image_shape": shape, **(dwt if factor > 1 else {})}

    batch = 4 * scale
    return {
        "images a step": [
            (n, n, base) for n in (batch // 4, batch // 2, batch, 2 * batch)
        ],
        "size of the images": [
            (factor * size, batch, resolution(factor)) for factor in (1, 2, 4)
        ],
        "transformer blocks": [
            (n, batch, {**base, "blocks": (*blocks, n)})
            for n in (1, depth, 2 * depth, 4 * depth)
        ],
        "transformer width": [
            (n, batch, {**base, "channels": (*widths, n)})
            for n in (width // 2, width, 2 * width)
        ],
    }


def measure(points, args):
    """Rows of a series: label, operations, first and median seconds."""
    runs, rows = [], []
    for label, batch_size, network in points:
        setting = Setting(
            "train", network, batch_size, args.repeats, args.dtype
        )
        run, facts = library.make(setting)
        started = time.perf_counter()
        run()
        first = time.perf_counter() - started
        runs.append(run)
        rows.append(
            {
                "label": label,
                "gmacs": 3 * batch_size * facts["gmacs"],
                "first": round(first, 2),
            }
        )
    seconds = np.array([[run() for run in runs] for _ in range(args.rounds)])
    for row, values in zip(rows, seconds.T / args.repeats, strict=True):
        row["seconds"] = round(float(np.median(values)), 4)
    return rows


def plot(found, path):
    figure, axes = plt.subplots(1, len(found), figsize=(4 * len(found), 3.4))
    for axis, (name, rows) in zip(axes, found.items(), strict=True):
        labels = [row["label"] for row in rows]
        rate = max(row["gmacs"] / row["seconds"] for row in rows)
        axis.plot(labels, [r["seconds"] for r in rows], "o-", label="step")
        axis.plot(
            labels,
            [r["gmacs"] / rate for r in rows],
            "k:",
            label="arithmetic, at the best rate",
        )
        axis.plot(labels, [r["first"] for r in rows], "s--", label="first call")
        axis.set(xlabel=name, xscale="log", yscale="log", xticks=labels)
        axis.set_xticklabels(labels)
        axis.minorticks_off()
    axes[0].set_ylabel("seconds")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    found = {}
    for name, points in series(args.scale).items():
        found[name] = measure(points, args)
        for row in found[name]:
            print(name, row, flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    plot(found, args.output / "performance_growth.png")
    backend = keras.config.backend()
    (args.output / "performance_growth.json").write_text(
        json.dumps(
            {"backend": backend, "rounds": args.rounds, "series": found},
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
