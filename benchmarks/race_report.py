"""Write the table and the curves of the results of `race.py`.

    python benchmarks/race_report.py --work runs/race

writes `docs/race.md` and `docs/race.png`, and from the images in `--work`
`docs/race_images.png`.
"""

import argparse
import json
import pathlib
import textwrap

import matplotlib.pyplot as plt
import measured
import numpy as np
import photographs
from race import MARKS
from race import PILOT
from race import RACERS

from keras_simple_diffusion.utils.sheets import show

RANDOM = "library_from_64"
FINETUNED = "library_finetuned"
GUIDED = f"{FINETUNED}+guided"
LONGER = f"{GUIDED}, longer"  # Trained for longer before.
STARTS = {
    RANDOM: "random weights",
    FINETUNED: "`photos_64` of 77 minutes, not guided",
    GUIDED: "`photos_64` of 77 minutes, guided",
    LONGER: "`photos_64` of 161 minutes, guided",
}
NETWORKS = {
    "library_from_64": "U-ViT from 64 pixels",
    "library_transformer": "pixel transformer",
}
# The run in the table of all projects, by an earlier version of the library on
# a slower machine. It is not compared with later ones.
EARLIER = (RANDOM, "faces", 0)
LONG_MINUTES = 40.0  # Of the other projects.
SCORES = ["minutes", "FID held out, by seed", "KID held out"]
# What `train` does about each lever.
DECISIONS = {
    "guided": "taken over",
    "no mirroring": "mirrors",
    "independent times": "keeps stratified times",
    "error in v": "keeps the sigmoid weighting",
    "muon": "keeps Adam",
    "batches of 8": "keeps 16",
    "bfloat16": "keeps float32",
    "rate falls": "as in this row",
    "rate 0.0016": "keeps 8e-4",
    "batches of 8 in bfloat16, rate 0.0016": "keeps 16, float32, 8e-4",
}
DOCS = pathlib.Path(__file__).parents[1] / "docs"
_PAGE = """# Race

For those who choose a library: four projects, the same photographs and minutes.

Each project trains on the same 290 photographs of faces (Caltech-101's aligned
ones) at 64 pixels for the same number of minutes. One evaluator measures FID
and KID of {num_images} generated images with 24 network evaluations each. Every
project uses one thread. The clock counts processor time, which equals
wall-clock time on a free core; it includes compilation but not sampling. Two or
three projects ran at once on two cores, in changing combinations, so
differences of a few percent in speed are noise. `benchmarks/race_report.py`
writes this page from `docs/race.jsonl`, the output of `benchmarks/race.py`.

Deviations from each project's recommended settings, and points that favour this
library:

- All networks were reduced to 0.2 to 0.5 billion multiply-accumulates, because
  otherwise no project would process enough images. Batches have 16 images (8
  for this library from 64 pixels), learning rates do not decay, and warm-up and
  average are faster than in the other projects' settings, which are meant for
  days of training. Everything that the settings below do not name is the
  project's default.
- 24 evaluations are fewer than the default of the other projects' samplers.
- This library's network from 64 pixels, with its loss and its noise schedule,
  is a cell of [the ablations](ablations.md) on the same photographs, where it
  was the best variant of input downsampling. It was entered after that result
  was known. For the other projects only the learning rate was chosen: several
  were tried for three minutes, and because FID cannot rank noise, several whole
  runs were made. The best whole run of each project counts, by the FID shown.
- The table shows one training per project. ± is the standard error of FID over
  the generated images; the spread between seeds is larger
  ([2 to 35](ablations.md)).

Such a short race shows which project gets beyond noise first, not which
generates the best images in the end. FID of noise is meaningless, and FID rises
while blurred blobs turn into broken faces, so look at the images. All results
between 440 and 520 are noise or blobs, and their order means nothing.

![FID against minutes](race.png)

After {minutes:g} minutes, best first:

{ranking}

Images generated at that time, one project per row in the order of the table:

![Generated images](race_images.png)

{long}## From a shipped model

`train` starts from `photos_64` where it helps. That model has seen photographs
of 16 other classes of Caltech-101 for 77 minutes of one core, or for 161, as
the present one has ([presets](presets.md)). The table does not count them: they
are the time that a user saves, and none of the race above. From random weights
the network from 64 pixels above is trained; these are new runs on the same
machine as the others, which see 1.5 times as many images in a minute as the one
above did, on an earlier version of the library. The churches (`race.py
--photographs churches`: 941 photographs of Imagenette, 409 held out) are
photographs by which nothing in the library was chosen.

A model that `train` finetunes draws guided away from its start
([finetuning](finetuning.md#guided-away-from-the-start)), by 2. Each step then
evaluates two networks, so that the images below take 12 steps instead of 24:
24 evaluations, as all others in the race. The scale of 2 was chosen on the
faces, by one run.
{finetuned}

![FID against minutes, from both starts](race_finetuned.png)

### Levers

The same start, with one thing changed, on the faces. Differences are those from
the unchanged recipe, not guided, with the same seeds, and their standard error
that of the mean over the seeds. With "rate falls" the learning rate falls to
zero in the last 30 % of the time, as `train --minutes` plans it. Time is equal,
so that a slower step means fewer images. The unchanged run of seed 0 is of
another day, and saw up to 1.1 times as many as it would have beside the others.
With one seed a difference below 8 means little:

{levers}

The guidance pays, and stays. So do stratified times and the sigmoid weighting,
without which FID is higher, while Muon is worse in so short a training. The
other differences are within their errors by these few seeds, so that `train`
stays as it is there.

## The pixel transformer

`jit_mini_64`, the network of JiT at its smallest, with the loss and the noise
schedule of that project ([presets](presets.md#the-pixel-transformer)), on the
faces and with the same clock as the U-ViT above:

{transformer}

## Learning rates

FID against held-out images, of {num_pilot} images after three minutes and of
{num_images} images at the end:

{rates}

For denoising-diffusion-pytorch, "average 0.995" without further notes is the
average of its own trainer, which is updated every 10 steps and copies the
weights for the first 100 steps. All of its trials used it.

## Settings

{settings}
"""
_LONG = """## Other projects after {minutes:g} minutes

Other projects that trained for {minutes:g} minutes on the same faces, with
their best learning rates above, beside this library's own runs on the
same machine, best first. It is faster than the machine of the table above.

{verdict}

{table}

"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, help="for images")
    args = parser.parse_args()
    lines = (DOCS / "race.jsonl").read_text().splitlines()
    lines = list(map(name_rate, map(json.loads, lines)))
    faces = [x for x in lines if x.get("photographs", "faces") == "faces"]
    pilots = [x for x in faces if x["marks"][-1]["minutes"] == PILOT[-1]]
    # Further seeds belong to the comparison of the starts.
    wholes = [
        x
        for x in faces
        if x["marks"][-1]["minutes"] == MARKS[-1] and x.get("seed", 0) == 0
    ]
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
        finetuned=write_finetuned(lines),
        levers=write_levers(faces),
        long=write_long(faces),
        transformer=write_networks(lines),
        settings=write_settings(finals),
    )
    (DOCS / "race.md").write_text(page)
    plot(finals, DOCS / "race.png")
    plot_finetuned(lines, DOCS / "race_finetuned.png")
    if args.work:
        draw_images(args.work, finals)


def name_rate(line):
    """Name another learning rate or start than the usual ones as a lever."""
    if "start_minutes" in line:
        return {**line, "racer": f"{line['racer']}, longer"}
    racer, _, lever = line["racer"].partition("+")
    if racer != FINETUNED or line["rate"] == RACERS[FINETUNED][0]:
        return line
    levers = [lever] * bool(lever) + [f"rate {line['rate']:g}"]
    return {**line, "racer": f"{racer}+{', '.join(levers)}"}


def write_finetuned(lines):
    """Compare the minutes to the quality of 20 minutes from random weights."""
    rows = [["", "start", *SCORES, "images seen"]]
    sentences = []
    for name in finetuned_sets(lines):
        found = {}
        for racer, start in STARTS.items():
            for minutes, marks in marks_of(lines, racer, name).items():
                found[racer, minutes] = marks
                images = np.mean([mark["images"] for mark in marks])
                cells = score_cells(minutes, marks)
                rows.append([name, start, *cells, f"{images:,.0f}"])
        for score, key in (("KID", "kid_test"), ("FID", "fid_test")):
            sentence = write_ratio(name, found, score, key)
            sentences += [textwrap.fill(sentence, 80), ""]
    return "\n".join(["", *sentences, markdown(rows)])


def write_networks(lines):
    """Compare the networks at each mark that both have."""
    rows = [["network", *SCORES, "images seen"]]
    found = {racer: marks_of(lines, racer, "faces") for racer in NETWORKS}
    common = sorted(set.intersection(*map(set, found.values())))
    for minutes in common:
        for racer, network in NETWORKS.items():
            marks = found[racer][minutes]
            images = np.mean([mark["images"] for mark in marks])
            cells = score_cells(minutes, marks)
            rows.append([network, *cells, f"{images:,.0f}"])
    return markdown(rows)


def write_long(lines):
    """Compare the longest runs of others with those of this library."""
    header = ["", *SCORES, "images seen"]
    entries, best = [], {}
    projects = {line["racer"]: line["project"] for line in lines}
    for racer, project in projects.items():
        ours = racer.startswith("library")
        if ours:
            project = f"keras_simple_diffusion, from {STARTS.get(racer)}"
        for minutes, marks in marks_of(lines, racer, "faces").items():
            if racer in STARTS or (minutes == LONG_MINUTES and not ours):
                fids = [mark["fid_test"] for mark in marks]
                images = np.mean([mark["images"] for mark in marks])
                cells = score_cells(minutes, marks)
                row = [project, *cells, f"{images:,.0f}"]
                entries.append((np.mean(fids), row))
                if not ours:
                    best[min(fids)] = project
    if not best:
        return ""
    entries.sort(key=lambda entry: entry[0])
    verdict = compare_with(best[min(best)], min(best), lines)
    return _LONG.format(
        minutes=LONG_MINUTES,
        verdict=verdict,
        table=markdown([header] + [row for _, row in entries]),
    )


def compare_with(project, goal, lines):
    """State when all seeds of each start are below the FID of a project."""
    parts = []
    for racer, start in STARTS.items():
        marks = marks_of(lines, racer, "faces")
        ahead = [
            minutes
            for minutes in sorted(marks)
            if max(mark["fid_test"] for mark in marks[minutes]) < goal
        ]
        after = f"after {ahead[0]:g} minutes" if ahead else "at no mark"
        parts.append(f"{after} (from {start})")
    text = (
        f"The best of them is {project} with an FID of {goal:.1f}. All seeds "
        f"of this library are below that {', '.join(parts)}."
    )
    return textwrap.fill(text, 80)


def write_levers(lines):
    """Compare each lever with the unchanged recipe, seed by seed."""
    # All of them are from the earlier start.
    lines = [line for line in lines if "start_minutes" not in line]
    header = ["", "minutes", "seeds", "FID held out", "difference"]
    error = "divided by its standard error"
    rows = [[*header, error, "images seen", "`train`"]]
    base = marks_by_seed(lines, FINETUNED)
    racers = dict.fromkeys(line["racer"] for line in lines)
    for racer in (x for x in racers if x.startswith(f"{FINETUNED}+")):
        found = marks_by_seed(lines, racer)
        for minutes in sorted({minutes for minutes, _ in found}):
            pairs = [
                (found[key], base[key])
                for key in found
                if key[0] == minutes and key in base
            ]
            if not pairs:
                continue
            ours, unchanged = (
                np.array([mark["fid_test"] for mark in marks])
                for marks in zip(*pairs, strict=True)
            )
            differences = ours - unchanged
            ratio = ""
            if len(pairs) > 1:
                error = np.std(differences, ddof=1) / np.sqrt(len(pairs))
                ratio = f"{differences.mean() / error:+.1f}"
            seen, before = (
                np.mean([mark["images"] for mark in marks])
                for marks in zip(*pairs, strict=True)
            )
            rows.append(
                [racer.partition("+")[2], f"{minutes:g}", f"{len(pairs)}"]
                + [f"{ours.mean():.1f} (unchanged {unchanged.mean():.1f})"]
                + [f"{differences.mean():+.1f}", ratio]
                + [f"{seen:,.0f} ({before:,.0f})"]
                + [DECISIONS.get(racer.partition("+")[2], "undecided")]
            )
    return markdown(rows)


def marks_by_seed(lines, racer):
    """Return the marks of a racer by minutes and seed."""
    return {
        (mark["minutes"], line.get("seed", 0)): mark
        for line in lines
        if line["racer"] == racer
        for mark in line["marks"]
    }


def score_cells(minutes, marks):
    """Return the cells of `SCORES` of one mark of all seeds."""
    fids = sorted(mark["fid_test"] for mark in marks)
    kid = np.mean([mark["kid_test"] for mark in marks])
    listed = ", ".join(f"{fid:.1f}" for fid in fids)
    return [f"{minutes:g}", listed, f"{1000 * kid:.0f}e-3"]


def write_ratio(name, found, score, key):
    """State how many times faster the finetuned runs are, in a sentence."""

    def values(racer, minutes):
        return [mark[key] for mark in found[racer, minutes]]

    goal = np.mean(values(RANDOM, MARKS[-1]))
    text = f"{goal:.1f}" if goal > 1 else f"{1000 * goal:.0f}e-3"
    for racer, minutes in sorted(found, key=lambda key: key[1]):
        if racer == GUIDED and max(values(racer, minutes)) <= goal:
            return (
                f"On the {name} all guided runs from `photos_64` (seeds: "
                f"{len(values(racer, minutes))}) are below {text}, the mean "
                f"{score} of {MARKS[-1]:g} minutes from random weights (seeds: "
                f"{len(values(RANDOM, MARKS[-1]))}), after {minutes:g} "
                f"minutes: at least **{MARKS[-1] / minutes:.1f} times** faster."
            )
    return (
        f"On the {name} not every guided run from `photos_64` has reached "
        f"{text}, the mean {score} of {MARKS[-1]:g} minutes from random "
        "weights, in the minutes below."
    )


def finetuned_sets(lines):
    """List the sets of photographs on which both starts have run."""
    return [
        name
        for name in photographs.SETS
        if all(marks_of(lines, racer, name) for racer in (RANDOM, GUIDED))
    ]


def marks_of(lines, racer, name):
    """Collect the marks of all seeds, by minutes."""
    found = {}
    for line in lines:
        run = line["racer"], line.get("photographs", "faces")
        is_earlier = (*run, line.get("seed", 0)) == EARLIER
        if run == (racer, name) and not is_earlier:
            for mark in line["marks"]:
                found.setdefault(mark["minutes"], []).append(mark)
    return dict(sorted(found.items()))


def plot_finetuned(lines, path):
    """Plot the mean FID of the seeds, and its range."""
    names = finetuned_sets(lines)
    figure, axes = plt.subplots(
        1, len(names), figsize=(8, 3.6), layout="constrained", squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        for racer, start in STARTS.items():
            marks = marks_of(lines, racer, name)
            if not marks:
                continue
            fids = [[m["fid_test"] for m in each] for each in marks.values()]
            means = [np.mean(each) for each in fids]
            (line,) = axis.plot(
                list(marks), means, "o-", label=start.replace("`", "")
            )
            low, high = map(min, fids), map(max, fids)
            axis.fill_between(
                list(marks),
                list(low),
                list(high),
                color=line.get_color(),
                alpha=0.2,
            )
        axis.set(
            title=name,
            xlabel="minutes of training",
            ylabel="FID, held out",
        )
        axis.set_xlim(left=0)
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
        axis.legend()
    figure.savefig(path, dpi=100)


def score_of(line):
    """Return the last FID against held-out images."""
    return line["marks"][-1]["fid_test"]


def of(project, lines):
    """Return the lines of a project."""
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
    """Draw the first final images of each project, one project per row."""
    drawn = []
    for line in finals:
        end = line["marks"][-1]["minutes"]
        seed = line.get("seed", 0)
        name = f"{line['racer']}-{line['rate']}-{seed}-{end:g}-{end:g}.zip"
        drawn.append(measured.read_images(work / name, 12))
    names = [line["project"] for line in finals]
    sheet = show(np.concatenate(drawn), columns=12, row_names=names)
    sheet.save(DOCS / "race_images.png")


if __name__ == "__main__":
    main()
