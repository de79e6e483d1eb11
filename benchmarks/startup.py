"""Measure whole processes: imports, help, and the first image of a command.

    python benchmarks/startup.py --against COMMIT --output startup.jsonl

Each measurement is a new process, of this version of the library and of that of
a commit, in turn: its time from start to end, the seconds of the processor
that it used, which other work on the machine changes less, and its peak memory.
"32 emoji" is the time of a second drawing in one process, without its start.
The compiled programs that JAX keeps are those of earlier rounds; "generate,
nothing kept" does without them.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import paired

BACKENDS = ("jax", "tensorflow", "torch")
COMMAND = ["-m", "keras_simple_diffusion"]
GENERATE = [*COMMAND, "generate", "--model", "emoji", "--prompt", "x"]
DRAW = """
import time
from keras_simple_diffusion.models import TextToImage
model = TextToImage.from_preset("emoji")
for _ in range(2):
    start = time.perf_counter(), time.process_time()
    model.generate(["grinning face"] * 32, seed=0)
print("took", time.perf_counter() - start[0], time.process_time() - start[1])
"""
JOBS = {
    "import": ["-c", "import keras_simple_diffusion"],
    "import of the models": ["-c", "from keras_simple_diffusion import models"],
    "help": [*COMMAND, "--help"],
    "generate": GENERATE,
    "generate, nothing kept": GENERATE,
    "32 emoji": ["-c", DRAW],
}
# What a process takes: seconds, seconds of the processor, MiB.
MEASURES = ("seconds", "seconds of the processor", "MiB")
AIMS = {
    ("import", MEASURES[1]): "at most 0.5",
    ("help", MEASURES[1]): "at most 0.5",
    ("generate", MEASURES[0]): "at most 0.5",
    ("generate", MEASURES[1]): "at most 0.5",
    ("generate", MEASURES[2]): "at most 0.5",
    ("32 emoji", MEASURES[1]): "at most 0.1",
}


def measure(tree, backend, job, cache):
    """Run one process, and return the numbers named in `MEASURES`."""
    keeps = "0" if "nothing kept" in job else "1"
    variables = {
        "PYTHONPATH": str(tree),
        "KERAS_BACKEND": backend,
        "XDG_CACHE_HOME": cache,
        "JAX_ENABLE_COMPILATION_CACHE": keeps,
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *JOBS[job]],
        cwd=cache,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process.stdout as stream:
        text = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{job} fails on {backend} in {tree}.")
    processor = usage.ru_utime + usage.ru_stime
    if "took" in text:
        seconds, processor = map(float, text.split()[-2:])
    return seconds, processor, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", required=True, help="An earlier commit.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument(
        "--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB"
    )
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument(
        "--compare", type=pathlib.Path, help="committed figures"
    )
    args = parser.parse_args()
    rows = []
    with (
        paired.checkout(args.against) as before,
        tempfile.TemporaryDirectory() as cache,
    ):
        for backend in args.backends.split(","):
            jobs = [
                job
                for job in args.jobs
                if "kept" not in job or backend == "jax"
            ]
            found = {job: ([], []) for job in jobs}
            # The first round writes bytecode and is not counted.
            for _ in range(args.rounds + 1):
                for job, both in found.items():
                    for tree, values in zip(
                        (before, paired.ROOT), both, strict=True
                    ):
                        values.append(measure(tree, backend, job, cache))
            for job, both in found.items():
                before_and_now = (np.array(x[1:]).T for x in both)
                for what, *pair in zip(MEASURES, *before_and_now, strict=True):
                    aim = AIMS.get((job, what), "")
                    rows.append(
                        paired.row(f"{backend}, `{job}`, {what}", *pair, aim)
                    )
                    print(rows[-1], flush=True)
    print(paired.table(rows, f"at {args.against}"))
    print(paired.setting())
    if args.compare:
        paired.tell(rows, args.compare)
    if args.output:
        facts = {"against": args.against, "rounds": args.rounds}
        paired.write(args.output, rows, **facts)


if __name__ == "__main__":
    main()
