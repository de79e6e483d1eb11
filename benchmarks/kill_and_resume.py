"""Kill a run again and again, resume it, and compare it with a straight one.

    KERAS_BACKEND=torch python benchmarks/kill_and_resume.py --kills 50

A small network with dropout, label dropout, an average of its weights and
accumulated gradients trains on the digits, with a checkpoint after each step.
The process is killed with SIGKILL at a random moment after it has made a
random number of steps, often while it writes. When the resumed run has come to
its end, every array of its checkpoint must equal the straight run's to the
bit, and so must the history. One JSON line is printed.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.reporting import read_history

CLOCKED = ("seconds", "images_per_second", "waiting")


def write_preset(folder, kind):
    options = {"num_heads": 2, "dropout": 0.2, "embedding_dim": 16}
    options["num_classes"] = 10
    if kind == "unet":
        backbone = ksd.models.UNetBackbone(
            (8, 8, 1), (8, 16), (1, 1), attention_levels=(1,), **options
        )
    else:
        backbone = ksd.models.UViTBackbone(
            (8, 8, 1), (8, 16), (1, 1), **options
        )
    ksd.models.DiffusionModel(backbone, num_steps=2).save_to_preset(folder)
    recipe = {"batch_size": 16, "accumulate": 2, "warmup_steps": 5}
    (folder / "recipe.json").write_text(json.dumps(recipe))


def start(*arguments):
    command = [sys.executable, "-m", "keras_simple_diffusion", "train"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)


def kill_after(process, checkpoints, steps, rng):
    """Kill it so many steps from now, or let it end. Returns whether killed."""
    first = (checkpoints.steps() or [0])[-1]
    while process.poll() is None:
        if (checkpoints.steps() or [0])[-1] >= first + steps:
            time.sleep(rng.uniform(0.0, 0.1))
            process.kill()
            process.communicate()
            return True
        time.sleep(0.002)
    finish(process)
    return False


def differences(first, second):
    """Names of the arrays that differ, and whether the histories do."""
    (ours, _), (theirs, _) = (
        Checkpoints(run / "checkpoints").latest() for run in (first, second)
    )
    names = [
        name
        for name in ours.keys()
        if not np.array_equal(ours[name], theirs[name])
    ]
    rows = [
        [
            {k: v for k, v in row.items() if k not in CLOCKED}
            for row in read_history(run / "history.csv")
        ]
        for run in (first, second)
    ]
    return len(ours.keys()), names, rows[0] != rows[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--network", choices=("uvit", "unet"), default="uvit")
    parser.add_argument("--most-steps", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    gaps = [rng.randint(1, args.most_steps) for _ in range(args.kills)]
    steps = max(40, sum(gaps) + args.most_steps * 2)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        write_preset(place / "preset", args.network)
        new = ["--data", "digits", "--preset", place / "preset"]
        new += ["--steps", steps, "--checkpoint-every", 1]
        finish(start(*new, "--output", place / "straight"))
        run = place / "cut"
        checkpoints = Checkpoints(run / "checkpoints")
        process, kills, drafts = start(*new, "--output", run), 0, 0
        for gap in gaps:
            kills += kill_after(process, checkpoints, gap, rng)
            drafts += any(checkpoints.folder.glob(".draft-*"))
            process = start("--resume", run)
        finish(process)
        total, names, is_history_other = differences(place / "straight", run)
    print(
        json.dumps(
            {
                "backend": keras.config.backend(),
                "network": args.network,
                "steps": steps,
                "kills": kills,
                "killed_while_writing": drafts,
                "arrays": total,
                "arrays_that_differ": len(names),
                "history_differs": is_history_other,
                "keras": keras.__version__,
            }
        )
    )
    sys.exit(bool(names or is_history_other))


if __name__ == "__main__":
    main()
