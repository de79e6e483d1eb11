"""Compare the speed of training steps, forward passes and sampling.

    python benchmarks/contest.py --task train --output docs/performance.jsonl

Each contender runs in its own process; they take turns, and ratios are those of
median times. The contenders are the library on each backend, the same network
written by hand (`twins/`, which use the library's weights and must give the
same output), and other projects if they are installed (see `contenders/`). The
rate is also given in operations per second and as a share of the rate of matrix
products in the same process. One JSON line is appended to the output.
"""

import argparse
import importlib
import json
import os
import pathlib
import platform
import sys
import time

import committed
import measures
import numpy as np
import paired
import turns
from contenders import STEPS
from contenders import Setting

NETWORKS = {
    "uvit_tiny": {  # To try the commands.
        "image_shape": (32, 32, 3),
        "channels": (16, 32, 64),
        "blocks": (1, 1, 1),
        "embedding_dim": 64,
    },
    "uvit_small": {
        "image_shape": (64, 64, 3),
        "channels": (32, 64, 256),
        "blocks": (2, 2, 6),
        "embedding_dim": 256,
    },
    "unet_small": {
        "image_shape": (64, 64, 3),
        "channels": (32, 64, 128, 128),
        "blocks": (2, 2, 2, 2),
        "attention_levels": (2, 3),
        "embedding_dim": 256,
    },
    "uvit_full": {
        "image_shape": (128, 128, 3),
        "channels": (128, 256, 512, 2048),
        "blocks": (2, 2, 2, 36),
        "embedding_dim": 1024,
    },
    "uvit_full_512": {
        "image_shape": (512, 512, 3),
        "channels": (128, 256, 512, 2048),
        "blocks": (2, 2, 2, 36),
        "embedding_dim": 1024,
        "downsampling": "dwt",
        "downsampling_factor": 4,
    },
}
# Name: the file in `contenders`, the backend, whether compiled.
CONTENDERS = {
    "ours jax": ("library", "jax", False),
    "ours tensorflow": ("library", "tensorflow", False),
    "ours torch": ("library", "torch", False),
    "ours torch compiled": ("library", "torch", True),
    "twin jax": ("twin", "jax", False),
    "twin torch": ("twin", "torch", False),
    "twin torch compiled": ("twin", "torch", True),
    "lucidrains": ("lucidrains", "torch", False),
    "lucidrains compiled": ("lucidrains", "torch", True),
    "diffusers": ("diffusers_unet", "torch", False),
    "bayesflow jax": ("bayesflow_uvit", "jax", False),
    "bayesflow tensorflow": ("bayesflow_uvit", "tensorflow", False),
    "bayesflow torch": ("bayesflow_uvit", "torch", False),
}
BASE = "twin torch"
# For all: glibc keeps freed memory, as the allocators that PyTorch recommends
# do. Else pages come and go, more with one contender than with another.
MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_MMAP_THRESHOLD_": "8000000000",
}


def work(name, args):
    file, backend, compiled = CONTENDERS[name]
    os.environ["KERAS_BACKEND"] = backend
    setting = Setting(
        args.task,
        NETWORKS[args.network],
        args.batch_size,
        args.repeats,
        args.dtype,
        compiled,
        args.guidance,
        args.clock,
    )
    function, facts = importlib.import_module(f"contenders.{file}").make(
        setting
    )

    def told():
        return {
            **facts,
            "peak_mib": measures.peak_mib(backend),
            "matmul": measures.matmul(backend, args.dtype),
        }

    turns.serve(function, told, getattr(time, args.clock))


def report(args, facts, seconds):
    batches = args.repeats * args.batch_size
    base = BASE if BASE in seconds else next(iter(seconds))
    rows = {}
    for name, values in seconds.items():
        fact = facts[name]
        rate = batches / np.median(values)
        operations = rate * fact["gmacs"] * (3 if args.task == "train" else 1)
        if args.task == "sample":
            operations *= fact.get("steps", STEPS)
            operations *= 2 if fact.get("guided", args.guidance != 1.0) else 1
        rows[name] = {
            "images_per_second": round(float(rate), 3),
            "seconds": [round(float(v), 4) for v in values],
            **turns.ratio(values, seconds[base]),
            "gmacs_per_second": round(float(operations), 1),
            "share_of_matmul": round(float(operations / fact["matmul"]), 3),
            **fact,
        }
    sums = [f["checksum"] for f in facts.values() if "checksum" in f]
    if sums and not np.allclose(sums, sums[0], rtol=1e-3):
        sys.exit(f"The networks are not the same: their outputs are {sums}")
    setting = {name: getattr(args, name) for name in committed.SETTING}
    return {
        **setting,
        "clock": args.clock,
        "rounds": args.rounds,
        "repeats": args.repeats,
        "base": base,
        "rows": rows,
        "cpus": len(os.sched_getaffinity(0)),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": paired.versions(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--task", choices=("train", "forward", "sample"), required=True
    )
    parser.add_argument("--network", choices=NETWORKS, default="uvit_small")
    parser.add_argument("--contenders", help="comma-separated; default: all")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=4, help="a turn")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument(
        "--clock",
        choices=("perf_counter", "process_time"),
        default="perf_counter",
        help="process_time for one core that does other work",
    )
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument(
        "--compare", type=pathlib.Path, help="committed figures"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args)
        return
    names = args.contenders.split(",") if args.contenders else CONTENDERS
    unknown = set(names) - set(CONTENDERS)
    if unknown:
        sys.exit(f"No such contenders: {unknown}. There are: {[*CONTENDERS]}")
    found = report(
        args,
        *turns.take_turns(
            names, args.rounds, lambda name: {**os.environ, **MALLOC}
        ),
    )
    for name, row in found["rows"].items():
        print(
            f"{name:24}{row['images_per_second']:10.2f} images/s"
            f"{row['ratio']:8.3f} {row['quartiles']}"
            f"{row['share_of_matmul']:8.2f} of matmul{row['peak_mib']:7} MiB"
        )
    for name, over in committed.over_bayesflow(found).items():
        print(f"{name}: operations a second over BayesFlow's {over}")
    if args.compare:
        committed.tell(found, args.compare)
    if args.output:
        with open(args.output, "a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
