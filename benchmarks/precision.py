"""Compare training and drawing in bfloat16 with float32, in turn.

    taskset -c 0 python benchmarks/precision.py --output docs/precision.jsonl

Both take turns in processes of their own, with the same network: training steps
of 8 images, or images drawn in 4 steps without guidance. Seconds are those of
the processor, which other work on the machine changes less than the time by the
clock. Ratios are those of images a second, so that more than 1 is faster than
float32. It prints a table in Markdown.
"""

import argparse
import os
import pathlib
import time

import numpy as np
import paired
import turns
from contest import MALLOC

BACKENDS = ("jax", "tensorflow", "torch")
TASKS = ("train", "draw")
PRECISIONS = ("float32", "mixed_bfloat16")
BATCH_SIZE = 8
TRAINING_STEPS, DRAWING_STEPS = 2, 4  # A turn.
# Images a second over those in float32.
AIMS = {
    ("tensorflow", "train"): "at least 1.4",
    ("torch", "train"): "at least 1.6",
}


def work(name, preset):
    """In a worker: take turns with a task in a precision."""
    backend, task, dtype = name.split()
    os.environ["KERAS_BACKEND"] = backend
    import keras
    from contenders.step_timer import StepTimer

    import keras_simple_diffusion as ksd

    keras.utils.set_random_seed(0)
    backbone = ksd.models.DiffusionBackbone.from_preset(
        preset, load_weights=False, dtype=dtype
    )
    model = ksd.models.DiffusionModel(backbone)
    model.compile(ksd.optimizers.Adam(1e-4), ema_decay=0.999)
    shape = (TRAINING_STEPS * BATCH_SIZE, *backbone.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, "uint8")

    def train():
        timer = StepTimer("process_time")
        model.fit(
            images,
            batch_size=BATCH_SIZE,
            shuffle=False,
            verbose=0,
            callbacks=[timer],
        )
        return timer.seconds / TRAINING_STEPS

    def draw():
        started = time.process_time()
        model.generate(BATCH_SIZE, num_steps=DRAWING_STEPS, seed=0)
        return time.process_time() - started

    turns.serve({"train": train, "draw": draw}[task])


def compare(backend, task, rounds):
    """Row of images a second in both precisions, medians of the rounds.

    Returns `None` if one of the two did not run.
    """
    names = [f"{backend} {task} {dtype}" for dtype in PRECISIONS]
    _, seconds = turns.take_turns(
        names, rounds, lambda name: {**os.environ, **MALLOC}
    )
    if not all(name in seconds for name in names):
        return None
    rates = (BATCH_SIZE / seconds[name] for name in names)
    aim = AIMS.get((backend, task), "")
    return paired.row(f"{task}, {backend}, images/s", *rates, aim)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="uvit_small_64")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument(
        "--compare", type=pathlib.Path, help="committed figures"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.preset)
        return
    rows = []
    for backend in args.backends.split(","):
        for task in args.tasks.split(","):
            row = compare(backend, task, args.rounds)
            if row is not None:
                rows.append(row)
                print(row, flush=True)
    print(paired.table(rows, *PRECISIONS))
    print(paired.setting())
    if args.compare:
        paired.tell(rows, args.compare, less="worse")
    if args.output:
        facts = {"preset": args.preset, "rounds": args.rounds}
        paired.write(args.output, rows, **facts)


if __name__ == "__main__":
    main()
