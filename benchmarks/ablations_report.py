"""Write tables, plots and images of the results of `ablations.py`.

    python benchmarks/ablations_report.py --work runs/ablations

writes `docs/ablations.md` and `docs/ablations.png`, and from the images in
`--work` `docs/ablations_TABLE.png`.

Each row is compared with the first row of its table: the difference of the mean
FID against held-out images, and this difference divided by its standard error
(from the spread between seeds) if both rows have three seeds. A difference is
reported if Welch's t-test passes the Benjamini-Hochberg procedure over all
tables.
"""

import argparse
import collections
import json
import math
import pathlib
import statistics
import textwrap

import matplotlib.pyplot as plt
import measured
import numpy as np
import scipy.stats
from ablation_cells import TABLES

from keras_simple_diffusion.utils.sheets import show

DOCS = pathlib.Path(__file__).parents[1] / "docs"
TRAIN, TEST = "fid_train", "fid_test"
SEEDS = 3  # Below it nothing is claimed.
LEVEL = 0.05
DRAWN = 8  # Images per row.
_CAPTION = "Images generated from the same noise"
_INTRODUCTION = """# Ablations

For those who ask which of the papers' findings show after minutes of training.

The paper's tables 2 to 6 and two further tables, repeated at a size that two
CPU cores can run, to see which of the paper's findings are visible after
minutes of training. All figures come from `docs/ablations.jsonl`
(`benchmarks/ablations.py`), all times from `benchmarks/ablation_costs.py`.
`benchmarks/ablations_report.py` writes this page.

{summary}

{setting}

- The networks are U-ViTs with 0.7 to 4.3 million parameters that predict the
  clean image. Several of the paper's tables are about U-Nets, which is another
  difference. The optimizer is Adam at 1e-3, the decay of the average 0.995, and
  the schedules end at a log-SNR of 4.
- The data are only 290 photographs, the trainings are a hundredth of the
  paper's length, and the generated images are blurred or broken faces (see the
  sheets). FID of 500 images is strongly biased upwards, and it even rises while
  blurred blobs turn into broken faces (also in [the race](race.md)). It shows
  which variant is ahead after 12,000 training images, not which would be best
  in the end. The paper's FIDs (train / eval) are measured after a million
  steps.
- The schedule also determines the noise levels of the sampler's 16 steps.
- The rows show the mean over seeds ± the standard deviation. *FID train* is
  measured against the training images. In the dropout table these are only 50,
  so it is higher there than the FID against the 145 held-out images.
- *Difference* is the difference of the held-out FID from the first row. The
  next column divides it by its standard error and gives the p-value of Welch's
  t-test, which accounts for the small number of seeds. *Found* lists the
  differences that remain at a false discovery rate of 5 % (Benjamini and
  Hochberg, {count} comparisons). The others are called *not distinguishable*,
  which does not mean equal. No claim is made for fewer than three seeds.
- *Step time* is the time of a training step relative to that with three blocks
  and DWT-2 (at 128 pixels: with shift 32), with quartiles.

![FID of every seed](ablations.png)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, help="for images")
    args = parser.parse_args()
    lines = (DOCS / "ablations.jsonl").read_text().splitlines()
    cells = collections.defaultdict(list)
    for line in map(json.loads, lines):
        cells[line["cell"]].append(line)
    costs = read_costs()
    comparisons = compare(cells)
    if args.work:
        for name, table in TABLES.items():
            draw_images(args.work, table, sheet_of(name))
    introduction = _INTRODUCTION.format(
        summary=summarize(cells, comparisons),
        setting=setting_of(next(iter(cells.values()))[0]),
        count=len(comparisons),
    )
    parts = [introduction]
    for name, table in TABLES.items():
        parts.append(write_table(table, cells, costs, comparisons))
        sheet = sheet_of(name)
        if sheet.exists():
            parts.append(f"![{_CAPTION}]({sheet.name})\n")
    (DOCS / "ablations.md").write_text("\n".join(parts))
    plot(cells, DOCS / "ablations.png")


def sheet_of(name):
    return DOCS / f"ablations_{name}.png"


def read_costs():
    path = DOCS / "ablations_costs.json"
    return json.loads(path.read_text())["cells"] if path.exists() else {}


def setting_of(line):
    """A paragraph that says how the cells were trained and measured."""
    versions = ", ".join(f"{k} {v}" for k, v in line["versions"].items())
    return textwrap.fill(
        f"Each cell trains for {line['steps']} steps of {line['batch_size']} "
        "images. The data are Caltech-101's 290 aligned training photographs "
        "of faces (50 of them for the dropout table) at 64 pixels, or 128 "
        "pixels for the schedules and the multiscale loss. Then "
        f"{line['num_images']} images are generated with "
        f"{line['sampling_steps']} steps of DPM-Solver++. "
        f"({versions}; {line['device']}.)",
        width=80,
    )


def compare(cells):
    """Compare each row with the first of its table if both have enough seeds.

    Returns:
        A dict of tuples by title and cell: difference of the means, the same
        over its standard error, p of Welch's t-test, and whether it counts.
    """
    found = {}
    for table in TABLES.values():
        first, *others = (cells[cell] for _, cell, _ in table.rows)
        for runs in others:
            if min(len(runs), len(first)) < SEEDS:
                continue
            x, y = ([run[TEST] for run in each] for each in (runs, first))
            test = scipy.stats.ttest_ind(x, y, equal_var=False)
            found[table.title, runs[0]["cell"]] = (
                statistics.mean(x) - statistics.mean(y),
                test.statistic,
                test.pvalue,
            )
    p_values = [p for _, _, p in found.values()]
    passed = scipy.stats.false_discovery_control(p_values) < LEVEL
    return {
        key: (*values, bool(counts))
        for (key, values), counts in zip(found.items(), passed, strict=True)
    }


def verdict(table, row, cells, comparisons):
    """Compare a row with the first row and with the paper's result.

    Returns an empty string for the first row and for unfinished rows.
    """
    label, cell, published = row
    first = table.rows[0]
    if row is first or not cells[cell]:
        return ""
    if (table.title, cell) not in comparisons:
        return f"fewer than {SEEDS} seeds"
    difference, _, _, counts = comparisons[table.title, cell]
    if not counts:
        return "not distinguishable"
    if published is None:
        return "FID higher" if difference > 0 else "FID lower"
    same = (difference > 0) == (published[1] > first[2][1])
    return "as in the paper" if same else "reversed"


def summarize(cells, comparisons):
    """Summarize each table in one line."""
    lines = []
    for table in TABLES.values():
        labels = collections.defaultdict(list)
        for row in table.rows:
            labels[verdict(table, row, cells, comparisons)].append(row[0])
        labels.pop("")
        said = "; ".join(f"{', '.join(v)}: {k}" for k, v in labels.items())
        lines.append(
            f"- **{table.title}**, compared with {table.rows[0][0]!r}: {said}."
        )
    return "\n".join(lines)


def write_table(table, cells, costs, comparisons):
    """Write a Markdown table with a comparison to the paper."""
    timed = any(cell in costs for _, cell, _ in table.rows[1:])
    head = ["", "seeds", "FID train", "FID held out", "KID held out"]
    head += ["difference", "divided by its standard error"]
    head += ["GMACs", "step time"] if timed else []
    head += ["the paper", "found"]
    rows = [head, ["---"] * len(head)]
    for entry in table.rows:
        label, cell, published = entry
        runs = cells[cell]
        if not runs:
            continue
        row = [label, str(len(runs)), spread(runs, TRAIN), spread(runs, TEST)]
        row += [spread(runs, "kid_test", 1000) + "e-3"]
        compared = comparisons.get((table.title, cell))
        row += (
            [f"{compared[0]:+.0f}", "{:+.1f} (p {:.1g})".format(*compared[1:3])]
            if compared
            else ["", ""]
        )
        if timed:
            row += [str(runs[0]["gmacs"]), step_time(costs.get(cell))]
        row += ["{:.2f} / {:.2f}".format(*published) if published else ""]
        row += [verdict(table, entry, cells, comparisons)]
        rows.append(row)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return (
        f"## {table.title}\n\nIn the paper: {table.paper}.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def step_time(cost):
    if cost is None:
        return ""
    low, high = cost["quartiles"]
    return f"{cost['ratio']:.2f} ({low:.2f} to {high:.2f})"


def spread(runs, key, scale=1):
    """Mean and standard deviation over seeds."""
    values = [scale * run[key] for run in runs]
    text = f"{statistics.mean(values):.1f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.1f}"
    return text


def draw_images(work, table, path):
    """Draw the first images of each row's first seed, one row per cell."""
    rows = [
        (label, work / f"{cell}-0.zip")
        for label, cell, _ in table.rows
        if (work / f"{cell}-0.zip").exists()
    ]
    if rows:
        labels, files = zip(*rows, strict=True)
        drawn = [measured.read_images(file, DRAWN) for file in files]
        sheet = show(
            np.concatenate(drawn), columns=DRAWN, row_names=list(labels)
        )
        sheet.save(path)


def plot(cells, path):
    columns = min(len(TABLES), 3)
    figure, axes = plt.subplots(
        math.ceil(len(TABLES) / columns),
        columns,
        figsize=(4.8 * columns, 8.4),
        squeeze=False,
        sharex=True,
    )
    axes = axes.ravel()
    for axis, table in zip(axes, TABLES.values(), strict=False):
        shown = [row for row in table.rows if cells[row[1]]]
        for place, (_, cell, _) in enumerate(shown):
            values = [run[TEST] for run in cells[cell]]
            axis.plot(values, [place] * len(values), "o", alpha=0.7)
        axis.set_yticks(range(len(shown)), [label for label, _, _ in shown])
        axis.set(title=table.title, xlabel="FID, held out")
        axis.tick_params(labelbottom=True)
        axis.margins(y=0.2)
        axis.invert_yaxis()
    for axis in axes[len(TABLES) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
