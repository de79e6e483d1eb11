"""The table and the curves of what `race.py` has found.

    python benchmarks/race_report.py --work runs/race

writes `docs/race.md` and `.png`, and of the images in `--work`
`docs/race_images.png`.
"""

import argparse
import json
import pathlib

import matplotlib.pyplot as plt
import measured
import numpy as np
from race import MARKS
from race import PILOT

from keras_simple_diffusion.utils.sheets import draw_sheet

DOCS = pathlib.Path(__file__).parents[1] / "docs"
_PAGE = """# Race

The same 290 photographs of faces (Caltech-101's aligned ones) at 64 pixels, the
same minutes, the same evaluator: FID and KID of {num_images} drawn images,
with 24 evaluations of the network each. Everybody has one thread and a clock of
processor time, which on a free core is the wall clock's; drawing does not
count, compiling does. Two or three raced at once on two cores, at other times
for each: a few percent of a rate are noise. Written by
`benchmarks/race_report.py` from `docs/race.jsonl`, which `benchmarks/race.py`
writes.

What is not as its project recommends, and what favours this library:

- All networks were shrunk to 0.2 to 0.5 billion multiply-accumulates, or nobody
  would see enough images. Batches are 16 (8 for this library from 64 pixels);
  rates do not decay; warm-up and average follow faster than in the peers' own
  settings, which are made for days. All else that the settings below do not
  name is each project's default.
- 24 evaluations are fewer than the peers' samplers take by default.
- This library's network from 64 pixels, with its loss and its noise schedule,
  is a cell of [the ablations](ablations.md), on these same photographs, where
  it was the best of the inputs. It entered after that was known. The peers
  chose a learning rate only: a few were tried for three minutes, and, as FID of
  noise chooses blindly, whole runs were made at several. Each project's best
  whole run counts, by the same FID that is shown.
- One training each. ± is the FID's standard error over the images drawn;
  trainings of other seeds differ by more ([2 to 35](ablations.md)).

So short a race shows who gets out of the noise first, not who draws best in the
end. FID of noise says nothing, and it rises on the way from blurred blobs to
broken faces, so look at the images. Between 440 and 520 all is noise or
blobs: read no order into those places.

![FID against minutes](race.png)

After {minutes:g} minutes, best first:

{ranking}

What they have drawn then, a row each in the order of the table:

![Images drawn](race_images.png)

## Learning rates

FID against held-out images, of {num_pilot} images after three minutes, of
{num_images} at the end:

{rates}

An average of 0.995 of denoising-diffusion-pytorch without more is its trainer's
own, updated every 10 steps and a copy of the weights for the first 100; that is
what its trials had.

## Settings

{settings}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, help="for images")
    args = parser.parse_args()
    lines = (DOCS / "race.jsonl").read_text().splitlines()
    lines = list(map(json.loads, lines))
    pilots = [x for x in lines if x["marks"][-1]["minutes"] == PILOT[-1]]
    wholes = [x for x in lines if x["marks"][-1]["minutes"] == MARKS[-1]]
    wholes.sort(key=score_of)
    best = {}
    for line in wholes:
        best.setdefault(line["project"], line)
    finals = list(best.values())
    page = _PAGE.format(
        minutes=MARKS[-1],
        num_images=finals[0]["num_images"],
        num_pilot=pilots[0]["num_images"],
        ranking=write_ranking(finals),
        rates=write_rates(pilots, wholes),
        settings=write_settings(finals),
    )
    (DOCS / "race.md").write_text(page)
    plot(finals, DOCS / "race.png")
    if args.work:
        draw_images(args.work, finals)


def score_of(line):
    """The last FID against held-out images."""
    return line["marks"][-1]["fid_test"]


def of(project, lines):
    """A project's lines."""
    return [line for line in lines if line["project"] == project]


def markdown(rows):
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_ranking(finals):
    scores = ["FID held out", "FID train", "KID held out"]
    rows = [["", *scores, "images seen", "steps"]]
    for line in finals:
        mark = line["marks"][-1]
        error = mark["fid_standard_error_test"]
        rows.append(
            [
                line["project"],
                f"{mark['fid_test']:.1f} ± {error:.1f}",
                f"{mark['fid_train']:.1f}",
                f"{1000 * mark['kid_test']:.0f}e-3",
                f"{mark['images']:,}",
                f"{mark['images'] // line['batch_size']:,}",
            ]
        )
    return markdown(rows)


def write_rates(pilots, wholes):
    rows = [["", "learning rate: FID after three minutes", "at the end"]]
    for project in dict.fromkeys(line["project"] for line in wholes):
        cells = [
            [f"{x['rate']:g}: {score_of(x):.0f}" for x in each]
            for each in (of(project, pilots), of(project, wholes))
        ]
        rows.append([project, *map(", ".join, cells)])
    return markdown(rows)


def write_settings(finals):
    keys = ("version", "network", "gmacs", "parameters", "batch_size")
    keys += ("optimizer", "rate", "average", "sampler")
    parts = []
    for line in finals:
        facts = "; ".join(f"{key} {line[key]}" for key in keys)
        parts.append(f"- **{line['project']}**: {facts}")
    return "\n".join(parts)


def plot(finals, path):
    figure, axis = plt.subplots(figsize=(7, 5.5), layout="constrained")
    for line in finals:
        minutes = [mark["minutes"] for mark in line["marks"]]
        fids = [mark["fid_test"] for mark in line["marks"]]
        axis.plot(minutes, fids, "o-", label=line["project"])
    axis.set(
        xlabel="minutes of training", ylabel="FID, held out", ylim=(0, None)
    )
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left")
    figure.savefig(path, dpi=100)


def draw_images(work, finals):
    """The first images that each has drawn at the end, a row each."""
    drawn = []
    for line in finals:
        end = line["marks"][-1]["minutes"]
        name = f"{line['racer']}-{line['rate']}-{end:g}-{end:g}.zip"
        drawn.append(measured.read_images(work / name, 12))
    names = [line["project"] for line in finals]
    sheet = draw_sheet(np.concatenate(drawn), columns=12, row_names=names)
    sheet.save(DOCS / "race_images.png")


if __name__ == "__main__":
    main()
