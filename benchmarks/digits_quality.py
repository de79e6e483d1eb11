"""Measure the quality of generated digits against real ones.

    python benchmarks/digits_quality.py --model runs/digits

A support vector machine trained on the real training digits classifies the
generated ones. The distance to the nearest training image detects copies, and
the spread within a class detects collapse. Both are compared with those of real
held-out digits.
"""

import argparse
import json
import platform
import time

import keras
import numpy as np
from digits_reader import DigitsReader

import keras_simple_diffusion as ksd


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a run or a preset")
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--guidance", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--save-classifier", help="a .keras file, for `evaluate --classifier`"
    )
    arguments = parser.parse_args()

    model = ksd.models.DiffusionModel.from_preset(arguments.model)
    reader = DigitsReader(model.backbone.image_shape[0])
    if arguments.save_classifier:
        reader.to_keras().save(arguments.save_classifier)
    labels = np.arange(10 * arguments.per_class) % 10
    start = time.perf_counter()
    images = model.generate(
        labels=labels,
        num_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        seed=arguments.seed,
        batch_size=100,
    )
    seconds = time.perf_counter() - start
    read = reader.read(images)
    rows = reader.measure(images, labels)
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
