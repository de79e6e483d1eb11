"""Compare students of few steps with their teacher, on digits.

    python benchmarks/distill_digits.py --output runs/students

The teacher, of the preset `uvit_digits_16`, is trained here unless `--teacher`
names one. The students are distilled by `distill_run`, with the same number of
updates each. 500 digits, 50 per class, are classified by a support vector
machine that was trained on the real training digits; the Fréchet distance to
held-out digits uses its ten decision values. One JSON line is printed for each
student, and for the teacher at several numbers of DDIM steps.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np
from digits_reader import DigitsReader

import keras_simple_diffusion as ksd

_PER_CLASS = 50
_TEACHER_STEPS = (32, 16, 8, 4, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="folder of the runs")
    parser.add_argument("--teacher", help="a run or a preset of digits")
    parser.add_argument("--minutes", type=float, default=6.5)
    parser.add_argument("--methods", default="consistency,progressive,moments")
    parser.add_argument("--steps", default="4,2")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seeds", default="0")
    arguments = parser.parse_args()

    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    teacher = arguments.teacher
    if teacher is None:
        teacher = folder / "teacher"
        ksd.training.train_run(
            "digits", teacher, "uvit_digits_16", minutes=arguments.minutes
        )
    model = ksd.models.DiffusionModel.from_preset(teacher)
    reader = DigitsReader(model.backbone.image_shape[0])
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for steps in _TEACHER_STEPS:
        for seed in seeds:
            options = {"num_steps": steps, "sampler": "ddim"}
            row = measure(model, reader, seed, **options)
            evaluations = steps * (1 if model.guidance_scale == 1.0 else 2)
            report(method="teacher", evaluations=evaluations, seed=seed, **row)
    for method in arguments.methods.split(","):
        for steps in map(int, arguments.steps.split(",")):
            for seed in seeds:
                start = time.perf_counter()
                student = ksd.training.distill_run(
                    teacher,
                    "digits",
                    folder / f"{method}-{steps}-{seed}",
                    steps,
                    method,
                    steps=arguments.updates,
                    batch_size=arguments.batch_size,
                    learning_rate=arguments.learning_rate,
                    seed=seed,
                    keep=2,
                )
                row = measure(student, reader, seed)
                seconds = round(time.perf_counter() - start)
                report(
                    method=method,
                    evaluations=student.num_steps,
                    seed=seed,
                    seconds=seconds,
                    updates=arguments.updates,
                    **row,
                )


def measure(model, reader, seed, **options):
    """Draw digits and measure them; return a dict."""
    labels = np.arange(10 * _PER_CLASS) % 10
    images = model.generate(labels=labels, seed=seed, batch_size=100, **options)
    rows = reader.measure(images, labels)
    return {name: round(ours, 4) for name, (ours, _) in rows.items()}


def report(**row):
    print(json.dumps({**row, "backend": keras.config.backend()}), flush=True)


if __name__ == "__main__":
    main()
