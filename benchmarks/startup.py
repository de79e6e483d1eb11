"""Measure the time of imports and first calls in a new process.

    python benchmarks/startup.py --output docs/performance_startup.jsonl

Each measurement is a new process; they take turns. `import keras_hub` and
`import keras_simple_diffusion` after it, for each backend; and the first
training step of the small U-ViT, which compiles on JAX and TensorFlow, of the
library and of the same network written by hand, which exists for JAX and
PyTorch (see `contest.py`). The time of later steps is taken off.
"""

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import turns
from contenders import Setting
from contest import CONTENDERS
from contest import NETWORKS

IMPORTS = ("jax", "tensorflow", "torch")
FIRST_CALLS = (
    "twin jax",
    "ours jax",
    "twin torch",
    "ours torch",
    "ours tensorflow",
)


def measure_import():
    """Seconds of `import keras_hub`, and of the library's after it."""
    started = time.perf_counter()
    importlib.import_module("keras_hub")
    middle = time.perf_counter()
    importlib.import_module("keras_simple_diffusion")
    return [middle - started, time.perf_counter() - middle]


def measure_first_call(name):
    """Seconds of the first training step, and of the second."""
    file, _, compiled = CONTENDERS[name]
    setting = Setting("train", NETWORKS["uvit_small"], 8, 1, compiled=compiled)
    function, _ = importlib.import_module(f"contenders.{file}").make(setting)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return seconds


def fresh(kind, name, backend):
    """The numbers that a new process prints."""
    answer = subprocess.run(
        [sys.executable, __file__, "--worker", kind, "--name", name],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        is_import = args.worker == "import"
        print(
            json.dumps(
                measure_import() if is_import else measure_first_call(args.name)
            )
        )
        return
    jobs = [("import", backend, backend) for backend in IMPORTS]
    jobs += [("first", name, CONTENDERS[name][1]) for name in FIRST_CALLS]
    found = {job: [] for job in jobs}
    for _ in range(args.rounds):
        for job in jobs:
            found[job].append(fresh(*job))
    found = {job[:2]: np.array(v) for job, v in found.items()}
    results = {"import": {}, "first": {}}
    for (kind, name), values in found.items():
        if kind == "import":
            base, added = np.median(values, axis=0)
            row = {
                "keras_hub": round(float(base), 3),
                "added": round(float(added), 3),
            }
        else:
            seconds = values[:, 0] - values[:, 1]
            row = {"seconds": round(float(np.median(seconds)), 3)}
            twin = found.get(("first", name.replace("ours", "twin")))
            if twin is not None:
                row |= turns.ratio(values[:, 0], twin[:, 0])
        results[kind][name] = row
        print(kind, name, row, flush=True)
    if args.output:
        with open(args.output, "a") as file:
            file.write(json.dumps({**results, "rounds": args.rounds}) + "\n")


if __name__ == "__main__":
    main()
