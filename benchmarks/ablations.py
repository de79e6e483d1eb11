"""Repeat the paper's tables 2 to 6, and two more, at a small size.

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch python benchmarks/ablations.py \
        --data ../shared/data --work runs/ablations --minutes 60 \
        --evaluate-on tensorflow

Works through the cells of `ablation_cells.py` with several seeds each: trains
for a fixed number of steps, generates images, and measures FID and KID against
training and held-out photographs with the library's own `evaluate`. Each result
is a line of `docs/ablations.jsonl`; a later call continues with the missing
ones. Several processes may share a folder, one per core:

    export OMP_NUM_THREADS=1 KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=cache \
        XLA_PYTHON_CLIENT_PREALLOCATE=false
    for i in 1 2 3 4 5 6 7 8; do python benchmarks/ablations.py ... & done; wait

does so on one GPU, where JAX trains fastest and `--evaluate-on torch` avoids
compilation.

`ablations_report.py` writes tables and plots of the results.
"""

import argparse
import fcntl
import importlib.metadata
import json
import pathlib
import sys
import time

import keras
import measured
import photographs
from ablation_cells import CELLS
from ablation_cells import SAMPLING_STEPS

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend.native import device_name
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.utils.sheets import show

RECIPE = Recipe(
    steps=1500,
    batch_size=8,
    learning_rate=1e-3,
    warmup_steps=100,
    ema_decay=0.995,
)
NUM_IMAGES = 500
_DRAWN_AT_ONCE = 50


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--output", default="docs/ablations.jsonl")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", help="comma-separated; default: all")
    parser.add_argument("--evaluate-on", help="another backend for that")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.end = time.monotonic() + 60 * args.minutes
    args.output = pathlib.Path(args.output)
    for name in args.cells.split(",") if args.cells else CELLS:
        with open(args.work / f"{name}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # Another queue has it.
            run_cell(name, args)


def run_cell(name, args):
    """Train, sample and measure a cell with each missing seed."""
    seeds = [s for s in range(args.seeds) if (name, s) not in finished(args)]
    if not seeds:
        return
    cell = CELLS[name]
    data = photographs.choose(args.data, args.work, few=cell.few)
    source = ksd.data.ArraySource(photographs.read(data, cell.image_size))
    model = None
    for seed in seeds:
        fresh = make_model(cell, seed)
        if model is None:
            model = fresh
        else:  # What was compiled is used again.
            for ours, new in zip(state(model), state(fresh), strict=True):
                ours.assign(new)
        started = time.monotonic()
        train(model, source, seed, args)
        seconds = time.monotonic() - started
        drawn = draw(model, seed)
        path = args.work / f"{name}-{seed}.zip"
        measured.write_images(drawn, path)
        sheet = show(drawn[:: NUM_IMAGES // 48][:48], columns=12)
        sheet.save(path.with_suffix(".png"))
        scores = measured.measure(
            path, data, args.data / measured.INCEPTION, args.evaluate_on
        )
        macs = sum(count_macs(model.backbone).values())
        line = {
            "cell": name,
            "seed": seed,
            "gmacs": round(macs / 1e9, 3),
            "parameters": model.backbone.count_params(),
            "steps": RECIPE.steps,
            "batch_size": RECIPE.batch_size,
            "seconds": round(seconds, 1),
            **scores,
            "num_images": NUM_IMAGES,
            "sampling_steps": SAMPLING_STEPS,
            "backend": keras.config.backend(),
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("keras", keras.config.backend())
            },
            "device": device_name(),
        }
        with args.output.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def finished(args):
    """Return the finished pairs of cell and seed."""
    if not args.output.exists():
        return set()
    lines = map(json.loads, args.output.read_text().splitlines())
    return {(line["cell"], line["seed"]) for line in lines}


def make_model(cell, seed):
    """Make a cell's model with new weights, ready for training."""
    keras.utils.set_random_seed(seed)
    model = cell.make_model()
    model.compile(RECIPE.make_optimizer(), ema_decay=RECIPE.ema_decay)
    model.optimizer.build(model.trainable_variables)
    return model


def state(model):
    """Return all variables that training changes."""
    return [*model.variables, *model.optimizer.variables]


def train(model, source, seed, args):
    batches = ksd.data.training_batches(source, RECIPE.batch_size, seed)
    model.fit(
        batches,
        steps_per_epoch=RECIPE.steps,
        shuffle=False,
        verbose=0,
        callbacks=[UntilTheEnd(args.end)],
    )


class UntilTheEnd(keras.callbacks.Callback):
    """Exits when the time limit of the queue is reached."""

    def __init__(self, end):
        super().__init__()
        self.end = end

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() > self.end:
            sys.exit("Time limit reached; call again to continue.")


def draw(model, seed):
    return model.generate(
        num_images=NUM_IMAGES,
        seed=seed,
        sampler=ksd.samplers.DPMSolverSampler(),
        batch_size=_DRAWN_AT_ONCE,
    )


if __name__ == "__main__":
    main()
