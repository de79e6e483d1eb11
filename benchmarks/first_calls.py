"""Measure the time of the first training step in a new process.

    python benchmarks/first_calls.py --output docs/performance_first_calls.jsonl
    python benchmarks/first_calls.py --rounds 3 \\
        --contenders "twin torch compiled,ours torch compiled"

Each measurement is a new process; they take turns. The first training step of
the small U-ViT compiles on JAX and TensorFlow, and on PyTorch where its name
says so. It is that of the library and of the same network written by hand,
which exists for JAX and PyTorch (see `contest.py`). The time of later steps is
taken off. PyTorch's compiler starts with an empty cache, and with one process,
so that the seconds of the processor are complete; on a machine with other work
they say more than those of the clock.
"""

import argparse
import importlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
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


def clocks():
    """Seconds of the clock, and of the processor in this process and others."""
    usages = map(
        resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    processor = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return np.array([time.perf_counter(), processor])


def measure_first_call(name, network):
    """Both seconds of the first training step, and of the second."""
    file, _, compiled = CONTENDERS[name]
    setting = Setting("train", NETWORKS[network], 8, 1, compiled=compiled)
    function, _ = importlib.import_module(f"contenders.{file}").make(setting)
    seconds = []
    for _ in range(2):
        started = clocks()
        function()
        seconds.append((clocks() - started).tolist())
    return seconds


def fresh(name, network):
    """The numbers that a new process prints."""
    with tempfile.TemporaryDirectory() as cache:
        answer = subprocess.run(
            [sys.executable, __file__, "--worker", name, "--network", network],
            env={
                **os.environ,
                "KERAS_BACKEND": CONTENDERS[name][1],
                "TORCHINDUCTOR_CACHE_DIR": cache,
                "TORCHINDUCTOR_COMPILE_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    return json.loads(answer.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--network", choices=NETWORKS, default="uvit_small")
    parser.add_argument(
        "--contenders",
        default=",".join(FIRST_CALLS),
        help="comma-separated",
    )
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure_first_call(args.worker, args.network)))
        return
    found = {name: [] for name in args.contenders.split(",")}
    for _ in range(args.rounds):
        for name in found:
            found[name].append(fresh(name, args.network))
    # Axes: rounds, first or second step, clock or processor.
    found = {name: np.array(values) for name, values in found.items()}
    results = {}
    for name, values in found.items():
        seconds = np.median(values[:, 0] - values[:, 1], axis=0)
        row = dict(
            zip(
                ("seconds", "processor"), seconds.round(3).tolist(), strict=True
            )
        )
        twin = found.get(name.replace("ours", "twin"))
        if twin is not None:
            row |= turns.ratio(values[:, 0, 0], twin[:, 0, 0])
            by_processor = turns.ratio(values[:, 0, 1], twin[:, 0, 1])
            row["processor_ratio"] = by_processor["ratio"]
        results[name] = row
        print(name, row, flush=True)
    if args.output:
        with open(args.output, "a") as file:
            line = {
                "first": results,
                "rounds": args.rounds,
                "network": args.network,
            }
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
