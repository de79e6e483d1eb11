"""Compare drawing on OpenVINO with the other backends, in turn.

    taskset -c 0 python benchmarks/drawing_backends.py

Each backend draws the same images of a shipped model, on one thread, in turn in
a process of its own. Seconds are those of the processor, which other work on
the machine changes less than the time by the clock. It prints a table in
Markdown: the median of the rounds, the first call, the greatest memory and the
greatest difference from the images of the first backend.
"""

import argparse
import os
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np
from turns import serve
from turns import take_turns

PROMPTS = ("man astronaut", "crying face", "red heart", "woman farmer")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backends", default="torch,tensorflow,jax,openvino")
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.argv += ["--folder", folder]
        names = args.backends.split(",")
        facts, seconds = take_turns(names, args.rounds, environment)
        report(pathlib.Path(folder), facts, seconds)


def environment(name):
    """Return the environment of a backend."""
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    return {**os.environ, **threads, "KERAS_BACKEND": name}


def work(args):
    """Draw, again for each turn, and leave the images in a file."""
    import keras_simple_diffusion as ksd

    model = ksd.models.Preset.open(args.model).load()
    numbers = range(args.images)
    if model.backbone.context_dim is not None:
        wanted = {"prompts": [PROMPTS[i % len(PROMPTS)] for i in numbers]}
    else:
        wanted = {"labels": [i % model.backbone.num_classes for i in numbers]}
    images, calls = [], []

    def run():
        started = time.process_time()
        images[:] = model.generate(**wanted, seed=0, num_steps=args.steps)
        calls.append(time.process_time() - started)
        return calls[-1]

    def keep():
        np.save(pathlib.Path(args.folder) / f"{args.worker}.npy", images)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"first": calls[0], "memory": memory}

    serve(run, keep)


def report(folder, facts, seconds):
    """Print the table."""
    print("| | seconds | first call | MiB | largest difference |")
    print("|---|---|---|---|---|")
    expected = np.load(folder / f"{next(iter(facts))}.npy").astype("int16")
    for name, told in facts.items():
        found = np.load(folder / f"{name}.npy").astype("int16")
        print(
            f"| {name} | {np.median(seconds[name]):.2f} | {told['first']:.2f} "
            f"| {told['memory']:,.0f} "
            f"| {np.abs(found - expected).max()} grey levels |"
        )


if __name__ == "__main__":
    main()
