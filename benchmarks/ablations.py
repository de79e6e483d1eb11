"""The paper's tables 2 to 6, and three more, at a size that a CPU can run.

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch python benchmarks/ablations.py \
        --data ../shared/data --work runs/ablations --minutes 60 \
        --evaluate-on tensorflow

A queue of the cells of `ablation_cells.py`, each with several seeds: train for
a fixed number of steps, draw pictures without guidance, FID and KID against
training and held-out photographs. Training and evaluation are the command
line's own; on a CPU, PyTorch trains fastest on one thread, and TensorFlow
evaluates fastest. A finished cell is a line of `docs/ablations.jsonl`; what is
cut off goes on later where it stood. Several queues may share a folder.

`ablations_report.py` makes tables and plots of the lines.
"""

import argparse
import collections
import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import subprocess
import sys
import time
import zipfile

from ablation_cells import CELLS
from ablation_cells import SAMPLING_STEPS

from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.training.recipe import Recipe
from keras_simple_diffusion.utils.files import whole_file

# The classes of Caltech-101 with most pictures, which a small network can tell
# from each other within minutes.
CLASSES = ("Faces_easy", "Motorbikes", "airplanes")
FEW = 50  # Training pictures a class, where there shall be few.
RECIPE = Recipe(
    steps=1500,
    batch_size=8,
    learning_rate=1e-3,
    warmup_steps=100,
    ema_decay=0.995,
)
NUM_IMAGES = 500


class OutOfTime(Exception):
    """The queue's minutes are over."""


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
    deadline = time.monotonic() + 60 * args.minutes
    names = args.cells.split(",") if args.cells else list(CELLS)
    output = pathlib.Path(args.output)
    try:
        for seed in range(args.seeds):
            for name in names:
                run_cell(name, seed, args, output, deadline)
    except OutOfTime:
        print("The time is over; call again to go on.")


def run_cell(name, seed, args, output, deadline):
    """Train and evaluate a cell, unless it is done or under way elsewhere."""
    folder = args.work / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if (name, seed) in finished(output):
            return
        cell = CELLS[name]
        data = pictures_of(cell, args)
        macs = write_preset(cell, folder / "start")
        train(folder, data, seed, deadline)
        report = evaluate(folder, data, args, deadline)
        line = {
            "cell": name,
            "seed": seed,
            "gmacs": round(macs / 1e9, 3),
            "steps": RECIPE.steps,
            "batch_size": RECIPE.batch_size,
            **summary(report),
        }
        with output.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def finished(output):
    """Cells and seeds of which there is a line."""
    if not output.exists():
        return set()
    lines = map(json.loads, output.read_text().splitlines())
    return {(line["cell"], line["seed"]) for line in lines}


def pictures_of(cell, args):
    """Path of the pictures of a cell."""
    path = args.work / ("few.zip" if cell.few else "pictures.zip")
    if not path.exists():
        with whole_file(path) as draft:
            choose(args.data / "caltech101_128.zip", draft, cell.few)
    return path


def choose(whole, path, few):
    """Copy a zip's pictures of `CLASSES`, or few of its training ones."""
    counts = collections.Counter()
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as chosen:
        for name in sorted(source.namelist()):
            folder = pathlib.PurePosixPath(name).parent
            if folder.name not in CLASSES:
                continue
            counts[folder] += 1
            is_test = folder.parent.name == "test"
            if is_test or not few or counts[folder] <= FEW:
                chosen.writestr(name, source.read(name))


def write_preset(cell, folder):
    """Write what `train --preset` takes; returns multiply-accumulates."""
    model = cell.make_model()
    if not (folder / "recipe.json").exists():
        model.save_to_preset(str(folder))
        recipe = json.dumps(dataclasses.asdict(RECIPE))
        (folder / "recipe.json").write_text(recipe)
    return sum(count_macs(model.backbone).values())


def train(folder, data, seed, deadline):
    """Train a cell to its last step."""
    run = folder / "run"
    if (run / "config.json").exists():
        if steps_done(run) < RECIPE.steps:
            command("train", deadline, resume=run)
    else:
        command(
            "train",
            deadline,
            data=data,
            preset=folder / "start",
            output=run,
            seed=seed,
            checkpoint_every=500,
        )


def steps_done(run):
    """Last step in the history of a run."""
    path = run / "history.csv"
    if not path.exists():
        return 0
    with path.open() as file:
        return max(
            (int(row["step"]) for row in csv.DictReader(file)), default=0
        )


def evaluate(folder, data, args, deadline):
    """The report of a trained cell."""
    path = folder / "report.json"
    if not path.exists():
        command(
            "evaluate",
            deadline,
            args.evaluate_on,
            *(["--resume"] if path.with_suffix(".features").exists() else []),
            model=folder / "run",
            data=data,
            metrics="fid,kid",
            num_images=NUM_IMAGES,
            sampler="dpm",
            steps=SAMPLING_STEPS,
            guidance=1,
            seed=0,
            feature_weights=args.data / "inception2015_fid_fp32.npz",
            output=path,
        )
    return json.loads(path.read_text())


def command(name, deadline, backend=None, *flags, **options):
    """Run one of the library's commands, until the time is over."""
    environment = dict(os.environ)
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    line = [sys.executable, "-m", "keras_simple_diffusion", name, *flags]
    for key, value in options.items():
        line += [f"--{key.replace('_', '-')}", str(value)]
    process = subprocess.Popen(line, env=environment)
    try:
        code = process.wait(max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        process.terminate()  # It saves what it has.
        process.wait()
        raise OutOfTime from None
    if code:
        raise RuntimeError(f"`{name}` failed with code {code}: {line}")


def summary(report):
    """What the tables need of a report."""
    (result,) = report["results"]
    scores = {
        f"{metric}_{split}": result["scores"][split][metric]
        for metric in ("fid", "fid_standard_error", "kid")
        for split in report["references"]
    }
    return {
        **scores,
        "num_images": result["num_images"],
        "sampling_steps": SAMPLING_STEPS,
        "versions": report["settings"]["made_with"]["versions"],
        "device": report["device"],
    }


if __name__ == "__main__":
    main()
