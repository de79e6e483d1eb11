"""How good are generated digits? Read, and compared with real ones.

    python benchmarks/digits_quality.py --model runs/demo

A support vector machine trained on the real training digits reads the
generated ones. The distance to the nearest training picture tells copies from
new digits, the spread within a class tells variety from collapse; both stand
beside those of real held-out digits.
"""

import argparse
import json
import pathlib
import platform
import time

import keras
import numpy as np
from sklearn.svm import SVC

import keras_simple_diffusion as ksd


def distances(a, b):
    """Root mean square difference of each pair, in grey levels of 0 to 1."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0) / a.shape[1])


def nearest(a, b):
    return float(distances(a, b).min(axis=1).mean())


def spread(pictures, labels):
    """Mean distance between two pictures of one class."""
    values = []
    for label in np.unique(labels):
        chosen = pictures[labels == label]
        pairs = distances(chosen, chosen)[np.triu_indices(len(chosen), 1)]
        values.append(pairs.mean())
    return float(np.mean(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a run or a preset")
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--guidance", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    preset = pathlib.Path(arguments.model) / "preset"
    model = ksd.models.DiffusionModel.from_preset(
        preset if preset.is_dir() else arguments.model
    )
    size = model.backbone.image_shape[0]

    def flat(images):
        return images.reshape(len(images), -1) / 255.0

    train, train_labels = ksd.data.load_digits(size, "train")
    test, test_labels = ksd.data.load_digits(size, "test")
    train, test = flat(train), flat(test)
    classifier = SVC(C=10.0).fit(train, train_labels)

    labels = np.repeat(np.arange(10), arguments.per_class)
    start = time.perf_counter()
    images = model.generate(
        labels=labels,
        num_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        seed=arguments.seed,
        batch_size=100,
    )
    seconds = time.perf_counter() - start
    generated = flat(images)
    read = classifier.predict(generated)
    rows = {
        "read as the digit asked for": (
            float((read == labels).mean()),
            float(classifier.score(test, test_labels)),
        ),
        "distance to the nearest training picture": (
            nearest(generated, train),
            nearest(test, train),
        ),
        "spread within a class": (
            spread(generated, labels),
            spread(test, test_labels),
        ),
    }
    print(f"{'':42}{'generated':>10}{'held out':>10}")
    for name, (ours, real) in rows.items():
        print(f"{name:42}{ours:10.3f}{real:10.3f}")
    worst = min(range(10), key=lambda c: (read[labels == c] == c).mean())
    print(
        f"worst class: {worst}, "
        f"{(read[labels == worst] == worst).mean():.2f} read as asked"
    )
    record = {
        "model": arguments.model,
        "num_images": len(images),
        "steps": arguments.steps or model.num_steps,
        "guidance": arguments.guidance or model.guidance_scale,
        "sampler": type(model.sampler).__name__,
        "seed": arguments.seed,
        "seconds": round(seconds, 1),
        "rows": {
            name: [round(v, 4) for v in row] for name, row in rows.items()
        },
        "backend": keras.config.backend(),
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
