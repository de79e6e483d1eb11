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
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
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
    "--help": [*COMMAND, "--help"],
    "generate": GENERATE,
    "generate, nothing kept": GENERATE,
    "32 emoji": ["-c", DRAW],
}
# What a process takes: seconds, seconds of the processor, MiB.
MEASURES = ("seconds", "processor", "memory")


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


def summarize(now, before):
    """Medians of both, and the quartiles of the ratios of the rounds."""
    ratios = np.percentile(now / before, [25, 50, 75])
    rounded = [round(float(x), 3) for x in ratios]
    return {
        "before": round(float(np.median(before)), 3),
        "now": round(float(np.median(now)), 3),
        "ratio": rounded[1],
        "quartiles": [rounded[0], rounded[2]],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", required=True, help="An earlier commit.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument(
        "--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB"
    )
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    git = ["git", "-C", str(ROOT), "worktree"]
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        before = pathlib.Path(folder) / "before"
        subprocess.run(
            [*git, "add", "--detach", before, args.against], check=True
        )
        try:
            for backend in args.backends.split(","):
                # The first round writes bytecode and is not counted.
                jobs = [
                    job
                    for job in args.jobs
                    if "kept" not in job or backend == "jax"
                ]
                found = {job: ([], []) for job in jobs}
                for _ in range(args.rounds + 1):
                    for job, both in found.items():
                        for tree, values in zip(
                            (ROOT, before), both, strict=True
                        ):
                            values.append(measure(tree, backend, job, folder))
                rows[backend] = {}
                for job, both in found.items():
                    now, earlier = (np.array(x[1:]).T for x in both)
                    rows[backend][job] = {
                        name: summarize(*pair)
                        for name, *pair in zip(
                            MEASURES, now, earlier, strict=True
                        )
                    }
                    print(backend, job, rows[backend][job], flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", before], check=True)
    if args.output:
        line = {"against": args.against, "rounds": args.rounds, "rows": rows}
        with args.output.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
