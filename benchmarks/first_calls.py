"""Measure the time of the first training step in a new process.

    python benchmarks/first_calls.py --output docs/performance_first_calls.jsonl

Each measurement is a new process; they take turns. The first training step of
the small U-ViT compiles on JAX and TensorFlow. It is that of the library and of
the same network written by hand, which exists for JAX and PyTorch (see
`contest.py`). The time of later steps is taken off.
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

FIRST_CALLS = (
    "twin jax",
    "ours jax",
    "twin torch",
    "ours torch",
    "ours tensorflow",
)


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


def fresh(name):
    """The numbers that a new process prints."""
    answer = subprocess.run(
        [sys.executable, __file__, "--worker", name],
        env={**os.environ, "KERAS_BACKEND": CONTENDERS[name][1]},
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
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure_first_call(args.worker)))
        return
    found = {name: [] for name in FIRST_CALLS}
    for _ in range(args.rounds):
        for name in FIRST_CALLS:
            found[name].append(fresh(name))
    found = {name: np.array(values) for name, values in found.items()}
    results = {}
    for name, values in found.items():
        seconds = values[:, 0] - values[:, 1]
        row = {"seconds": round(float(np.median(seconds)), 3)}
        twin = found.get(name.replace("ours", "twin"))
        if twin is not None:
            row |= turns.ratio(values[:, 0], twin[:, 0])
        results[name] = row
        print(name, row, flush=True)
    if args.output:
        with open(args.output, "a") as file:
            line = {"first": results, "rounds": args.rounds}
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
