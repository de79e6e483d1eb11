"""Compare students of few steps with their teacher, on digits.

    KERAS_BACKEND=tensorflow python benchmarks/distill_digits.py \
        --output runs/students --plot docs/distillation.png

A small U-ViT with guidance for digits of 8 x 8 pixels is trained, unless
`--teacher` names another model, and distilled by each method with the same
number of updates. 500 digits, 50 per class, are classified by a support vector
machine that was trained on the real training digits; the Fréchet distance to
held-out digits uses its ten decision values. A row is written for each student,
and for the teacher with several numbers of DDIM steps; rows that the folder has
already are kept.
"""

import argparse
import pathlib
import time

import keras
import numpy as np
from digits_reader import DigitsReader
from results import Results

import keras_simple_diffusion as ksd

_PER_CLASS, _BATCH = 50, 64
_TEACHER_STEPS = (32, 16, 8, 4, 2, 1)  # Each of two evaluations.
_RATES = {"consistency": 1e-3, "progressive": 1e-3, "moments": 2e-4}
_MEASURES = {
    "read as the digit asked for": "accuracy",
    "spread within a class": "spread",
    "Fréchet distance to held-out digits": "frechet",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="folder of the results")
    parser.add_argument("--teacher", help="a run or a preset of digits")
    parser.add_argument("--methods", default="consistency,progressive,moments")
    parser.add_argument("--steps", default="4,2")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--teacher-updates", type=int, default=1500)
    parser.add_argument("--learning-rate", type=float, help="of all methods")
    parser.add_argument("--plot", help="file of a plot of the results")
    arguments = parser.parse_args()

    folder = pathlib.Path(arguments.output)
    results = Results(folder / "results.jsonl", "method", "evaluations", "seed")
    path = arguments.teacher or folder / "teacher"
    if arguments.teacher is None and not path.exists():
        train_teacher(path, arguments.teacher_updates)
    teacher = ksd.models.DiffusionModel.from_preset(path)
    size = teacher.backbone.image_shape[0]
    data, reader = digits(size), DigitsReader(size)
    for seed in map(int, arguments.seeds.split(",")):
        for steps in _TEACHER_STEPS:
            key = ("teacher", 2 * steps, seed)
            if key not in results:
                options = {"num_steps": steps, "sampler": "ddim"}
                results.add(key, measure(teacher, reader, seed, **options))
        for steps in map(int, arguments.steps.split(",")):
            for method in arguments.methods.split(","):
                key = (method, steps, seed)
                if key in results:
                    continue
                rate = arguments.learning_rate or _RATES[method]
                row = {"updates": arguments.updates, "learning_rate": rate}
                keras.utils.set_random_seed(seed)
                start = time.process_time()
                student = make_student(teacher, method, steps, **row)
                fit(student, data, seed=seed, **row)
                row["cpu_seconds"] = round(time.process_time() - start, 1)
                results.add(key, row | measure(student, reader, seed))
    if arguments.plot:
        draw_plot(results.rows, arguments.plot)


def digits(size):
    images, labels = ksd.data.load_digits(size, "train")
    return {"images": images, "labels": labels}


def train_teacher(path, updates):
    """Train the small teacher, and write its preset."""
    keras.utils.set_random_seed(0)
    network = ksd.models.UViTBackbone(
        (8, 8, 1),
        channels=(32, 64),
        blocks=(1, 3),
        num_heads=4,
        dropout=0.1,
        num_classes=10,
        embedding_dim=128,
    )
    model = ksd.models.DiffusionModel(
        network, guidance_scale=1.5, num_steps=_TEACHER_STEPS[0]
    )
    fit(model, digits(8), updates, 2e-3, seed=0)
    model.save_to_preset(path)


def make_student(teacher, method, steps, updates, learning_rate):
    """Make the distillation of a method, as `distill` does."""
    if method == "consistency":
        return ksd.distillation.ConsistencyDistillation(
            teacher, steps, (_TEACHER_STEPS[0], 128), updates
        )
    if method == "moments":
        return ksd.distillation.MomentMatching(teacher, steps)
    halvings = _TEACHER_STEPS.index(steps)
    return ksd.distillation.ProgressiveDistillation(
        teacher, steps, halvings, updates // halvings
    )


def fit(model, data, updates, learning_rate, seed):
    """Train with a warm-up, a decay and an average that fit the length."""
    phase = updates
    if isinstance(model, ksd.distillation.ProgressiveDistillation):
        phase = model.updates_per_halving
    is_alternating = isinstance(model, ksd.distillation.MomentMatching)
    recipe = ksd.training.Recipe(
        steps=updates,
        batch_size=_BATCH,
        learning_rate=learning_rate,
        beta_1=0.0 if is_alternating else 0.9,
        warmup_steps=updates // 20,
        cooldown_steps=updates * 3 // 10,
    )
    model.compile(recipe.make_optimizer(), ema_decay=1 - 10 / phase)
    count = len(data["labels"])
    rng = np.random.default_rng(seed)
    epochs = -(-updates * _BATCH // count)
    order = np.concatenate([rng.permutation(count) for _ in range(epochs)])
    order = order[: updates * _BATCH]
    batches = {name: values[order] for name, values in data.items()}
    model.fit(batches, batch_size=_BATCH, shuffle=False, verbose=0)


def measure(model, reader, seed, **options):
    """Draw digits and measure them; return a dict."""
    labels = np.arange(10 * _PER_CLASS) % 10
    images = model.generate(labels=labels, seed=seed, batch_size=100, **options)
    rows = reader.measure(images, labels)
    return {short: round(rows[name][0], 4) for name, short in _MEASURES.items()}


def draw_plot(rows, path):
    """Draw the mean distance against evaluations, and its range over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method in ("teacher", *_RATES):
        found = {}
        for row in rows:
            if row["method"] == method:
                found.setdefault(row["evaluations"], []).append(row["frechet"])
        if not found:
            continue
        counts = sorted(found)
        means = np.array([np.mean(found[count]) for count in counts])
        lowest = np.array([min(found[count]) for count in counts])
        highest = np.array([max(found[count]) for count in counts])
        axes.errorbar(
            counts,
            means,
            yerr=[means - lowest, highest - means],
            marker="o",
            capsize=3,
            label=method,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [2**i for i in range(1, 7)]
    axes.set_xticks(ticks, labels=map(str, ticks))
    axes.set_yticks([1, 2, 4, 8], labels="1248")
    axes.minorticks_off()
    axes.set_xlabel("evaluations of the network for an image")
    axes.set_ylabel("Fréchet distance to held-out digits")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
