"""The paper's tables 2 to 6, and three more, at a size that a CPU can run.

    KERAS_BACKEND=torch python benchmarks/ablations.py \
        --data ../shared/data --work runs/ablations --minutes 60

A queue of the cells of `ablation_cells.py`, each with several seeds: train for
a fixed number of steps, draw pictures without guidance, FID and KID against
training and held-out photographs. Training and evaluation are the command
line's own. A finished cell is a line of `docs/ablations.jsonl`; what is cut
off goes on later where it stood. Several queues may share a folder.

`ablations_report.py` makes tables and plots of the lines.
"""

import argparse
import csv
import dataclasses
import fcntl
import json
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

PICTURES = {
    "imagenette": "imagenette_64.zip",
    "caltech101": "caltech101_128.zip",
}
RECIPE = Recipe(
    steps=500,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=50,
    ema_decay=0.99,
)
NUM_IMAGES = 500

FEW = 50  # A class, where there shall be few pictures.


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
    kind, _, few = cell.pictures.partition("_")
    whole = args.data / PICTURES[kind]
    if not few:
        return whole
    path = args.work / f"{cell.pictures}.zip"
    if not path.exists():
        with whole_file(path) as draft:
            leave_few(whole, draft)
    return path


def leave_few(whole, path):
    """Copy a zip with the first pictures of each training class only."""
    counts = {}
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as few:
        for name in sorted(source.namelist()):
            folder = name.rpartition("/")[0]
            counts[folder] = counts.get(folder, 0) + 1
            if not name.startswith("train/") or counts[folder] <= FEW:
                few.writestr(name, source.read(name))


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
            checkpoint_every=250,
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


def command(name, deadline, *flags, **options):
    """Run one of the library's commands, until the time is over."""
    line = [sys.executable, "-m", "keras_simple_diffusion", name, *flags]
    for key, value in options.items():
        line += [f"--{key.replace('_', '-')}", str(value)]
    process = subprocess.Popen(line)
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
