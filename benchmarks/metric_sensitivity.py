"""Measure how the metrics respond to faults of images.

    KERAS_BACKEND=tensorflow python benchmarks/metric_sensitivity.py \
        --images imagenette_64.zip --weights inception2015_fid_fp32.npz \
        --output docs/metric_sensitivity

Held-out photographs are made worse, more and more: noise, blur, JPEG, a shift
of the colours, fewer classes. FID, recall and coverage against the training
photographs, one JSON line a kind and strength, appended; a plot; and whether
each metric only gets worse with the strength.
"""

import argparse
import io
import json
import pathlib
import warnings

import keras
import numpy as np
from matplotlib import pyplot
from PIL import Image
from PIL import ImageFilter

import keras_simple_diffusion as ksd

_OF_CLASSES = 700
METRICS = {"fid": "FID", "recall": "recall", "coverage": "coverage"}


def noisy(images, labels, strength):
    noise = np.random.default_rng(0).normal(size=images.shape)
    return np.clip(images + strength * noise, 0, 255).astype("uint8")


def one_by_one(change):
    def changed(images, labels, strength):
        return np.stack(
            [np.asarray(change(Image.fromarray(i), strength)) for i in images]
        )

    return changed


def blur(image, strength):
    return image.filter(ImageFilter.GaussianBlur(strength))


def jpeg(image, strength):
    file = io.BytesIO()
    image.save(file, "jpeg", quality=strength)
    return Image.open(file).convert("RGB")


def shifted(images, labels, strength):
    moved = images.astype("float64") + strength * np.array([1.0, -0.5, -0.5])
    return np.clip(moved, 0, 255).astype("uint8")


def few_classes(images, labels, strength):
    """As many images of few classes as of all, none of them twice."""
    kept = images[labels < strength]
    return kept[np.linspace(0, len(kept) - 1, _OF_CLASSES).round().astype(int)]


# Strengths from nothing to much.
KINDS = {
    "noise, standard deviation": (noisy, (0, 4, 8, 16, 32)),
    "blur, radius": (one_by_one(blur), (0, 0.5, 1, 1.5, 2)),
    "JPEG, quality": (one_by_one(jpeg), (95, 60, 30, 15, 10, 5)),
    "colour shift, grey levels": (shifted, (0, 8, 16, 32, 64, 96)),
    "classes left of 10": (few_classes, (10, 8, 6, 4, 2)),
}


def read(path, split, count):
    source = ksd.data.open_data(path, 64, split)
    numbers = range(len(source))
    if count is not None:
        numbers = np.linspace(0, len(source) - 1, count).round().astype(int)
    examples = [source[int(i)] for i in numbers]
    return tuple(
        np.stack([e[key] for e in examples]) for key in ("images", "labels")
    )


def measure(features, real, statistics):
    drawn = ksd.metrics.FeatureStatistics(features.shape[1])
    drawn.add(features)
    _, recall = ksd.metrics.precision_recall(features, real)
    _, coverage = ksd.metrics.density_coverage(features, real)
    fid = ksd.metrics.frechet_distance(drawn, statistics)
    return {"fid": fid, "recall": recall, "coverage": coverage}


def plot(rows, path):
    figure, axes = pyplot.subplots(
        len(METRICS), len(KINDS), figsize=(13, 7), layout="constrained"
    )
    for column, kind in enumerate(KINDS):
        chosen = [row for row in rows if row["kind"] == kind]
        chosen.sort(key=lambda r: KINDS[kind][1].index(r["strength"]))
        strengths = [str(row["strength"]) for row in chosen]
        for row, (metric, title) in enumerate(METRICS.items()):
            values = [r[metric] for r in chosen]
            axes[row, column].plot(strengths, values, marker="o")
            axes[row, column].set_ylim(bottom=0)
            axes[row, 0].set_ylabel(title)
        axes[-1, column].set_xlabel(kind)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "A Fréchet distance of")
    network = ksd.metrics.InceptionFeatures(args.weights)
    real = network(read(args.images, "train", args.count)[0])
    statistics = ksd.metrics.FeatureStatistics(real.shape[1])
    statistics.add(real)
    test = read(args.images, "test", args.count)
    whole = read(args.images, "test", None)
    lines = args.output.with_suffix(".jsonl")
    rows = []
    if lines.exists():
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
    for kind, (change, strengths) in KINDS.items():
        for strength in strengths:
            if any(
                (r["kind"], r["strength"]) == (kind, strength) for r in rows
            ):
                continue
            images = whole if change is few_classes else test
            features = network(change(*images, strength))
            row = {
                "kind": kind,
                "strength": strength,
                **measure(features, real, statistics),
                "count": len(features),
                "backend": keras.config.backend(),
            }
            rows.append(row)
            with open(lines, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
        for metric in METRICS:
            chosen = [r for r in rows if r["kind"] == kind]
            chosen.sort(key=lambda r: strengths.index(r["strength"]))
            values = np.array([r[metric] for r in chosen])
            worse = np.diff(values) * (1 if metric == "fid" else -1)
            # Shares of images have the noise of their number.
            noise = 0.0
            if metric != "fid":
                counts = np.array([r["count"] for r in chosen])
                variances = values * (1 - values) / counts
                noise = 2 * np.sqrt(variances[1:] + variances[:-1])
            print(
                f"{kind}: {metric} worse at every step: {(worse > 0).all()}, "
                f"or as good within 2 standard errors: {(worse > -noise).all()}"
            )
    plot(rows, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
