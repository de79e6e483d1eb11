"""Compare projects after the same minutes of training on one machine.

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch python benchmarks/race.py \
        --data ../shared/data --work runs/race --minutes 60 \
        --evaluate-on tensorflow

Each racer (`racers/`) trains in its own process on the same photographs
(`photographs.py`) at 64 pixels. Its clock is its processor time, which
equals the wall-clock time of one thread on a free core; sampling does not
count. At each mark it generates images, and the library's `evaluate` measures
FID and KID against training and held-out photographs. First every racer tries
three learning rates for a few minutes and keeps the one with the best FID. If
all three still generate noise, this choice is arbitrary: `--rate` runs the
whole race with another rate, and the better run counts. `--seed` and `--marks`
give other runs of one racer, such as the first minutes only. With
`--racers "library_finetuned+muon"` a lever of that racer is changed.

Each result is a line of `docs/race.jsonl`; a later call continues with the
missing ones. A racer takes about 50 minutes on one core, including sampling and
`evaluate`. `race_report.py` writes the table and the curves.
"""

import argparse
import importlib
import json
import pathlib
import subprocess
import sys
import time

import measured
import numpy as np
import photographs

from keras_simple_diffusion.utils.sheets import show

# The learning rates that each tries; its own comes first.
RACERS = {
    "library": (6e-4, 2e-4, 1e-3),
    "library_from_64": (1e-3, 5e-4, 2e-3),
    "library_transformer": (1e-3, 5e-4, 2e-3),
    "library_finetuned": (8e-4, 4e-4, 2e-4),
    "lucidrains_uvit": (1e-4, 3e-4, 1e-3),
    "lucidrains_unet": (1e-4, 3e-4, 1e-3),
    "diffusers_unet": (1e-4, 3e-4, 1e-3),
    "bayesflow_uvit": (5e-4, 2e-4, 1e-3),
}
PILOT = (3.0,)  # Minutes.
MARKS = (5.0, 10.0, 20.0)
NUM_IMAGES = 300
NUM_IMAGES_OF_PILOT = 120
IMAGE_SIZE = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument(
        "--output", type=pathlib.Path, default="docs/race.jsonl"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--racers", help="comma-separated; default: all")
    parser.add_argument("--rate", type=float, help="take this one; tries none")
    parser.add_argument(
        "--photographs", choices=photographs.SETS, default="faces"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--marks", type=float, nargs="+", default=MARKS, help="minutes"
    )
    parser.add_argument("--evaluate-on", help="another backend for that")
    parser.add_argument("--unit", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.unit:
        name, rate, *marks = args.unit.split(":")
        run(name, float(rate), tuple(map(float, marks)), args)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    names = args.racers.split(",") if args.racers else list(RACERS)
    for name in names:
        rate = args.rate or choose_rate(name, args, end)
        compete(name, rate, tuple(args.marks), args, end)


def choose_rate(name, args, end):
    """Choose the learning rate with the best FID after a few minutes."""
    rates = RACERS[name.partition("+")[0]]
    scores = [compete(name, r, PILOT, args, end) for r in rates]
    return rates[int(np.argmin(scores))]


def compete(name, rate, marks, args, end):
    """Run a racer unless it is finished, and return its last FID."""
    done = finished(name, rate, marks, args)
    if not done:
        if time.monotonic() > end:
            sys.exit("The time is over; call again to go on.")
        unit = ":".join(map(str, (name, rate, *marks)))
        subprocess.run([sys.executable, *sys.argv, "--unit", unit], check=True)
        done = finished(name, rate, marks, args)
    return done["marks"][-1]["fid_test"]


def finished(name, rate, marks, args):
    """Return the line of a finished run, or `None`."""
    file = args.output
    lines = file.read_text().splitlines() if file.exists() else []
    wanted = (name, rate, args.seed, marks, args.photographs)
    for line in map(json.loads, lines):
        minutes = tuple(mark["minutes"] for mark in line["marks"])
        found = line["racer"], line["rate"], line.get("seed", 0), minutes
        if (*found, line.get("photographs", "faces")) == wanted:
            return line
    return None


def run(name, rate, marks, args):
    """Train a racer to its last mark, and measure it at each."""
    count = NUM_IMAGES_OF_PILOT if marks == PILOT else NUM_IMAGES
    data = photographs.choose(args.data, args.work, args.photographs)
    images = photographs.read(data, IMAGE_SIZE)
    started = time.process_time()
    module, *lever = name.split("+")
    racer = importlib.import_module(f"racers.{module}").make(
        images, rate, args.seed, *lever
    )
    spent = time.process_time() - started
    rows, seen = [], 0
    for minutes in marks:
        now = time.process_time()
        seen += racer.train(60 * minutes - spent)
        spent += time.process_time() - now
        drawn = racer.draw(count, seed=0)
        stem = f"{name}-{rate}-{args.seed}-{marks[-1]:g}-{minutes:g}"
        if args.photographs != "faces":
            stem = f"{args.photographs}-{stem}"
        path = args.work / f"{stem}.zip"
        measured.write_images(drawn, path)
        sheet = show(drawn[:48], columns=12)
        sheet.save(path.with_suffix(".png"))
        scores = measured.measure(
            path, data, args.data / measured.INCEPTION, args.evaluate_on
        )
        rows.append({"minutes": minutes, "images": seen, **scores})
        print(name, rate, rows[-1], flush=True)
    line = {"racer": name, "rate": rate, "seed": args.seed}
    line["photographs"] = args.photographs
    line |= {"num_images": count, "marks": rows}
    line |= racer.facts
    with args.output.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
