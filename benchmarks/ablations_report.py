"""Tables and plots of what `ablations.py` has found so far.

    python benchmarks/ablations_report.py --work runs/ablations

writes `docs/ablations.md` and `.png`, and of the pictures in `--work`
`docs/ablations_schedules.png`.

Each row is compared with the first of its table: the difference of the mean
FID against held-out pictures, over its standard error from the spread between
seeds. A difference that Welch's t-test cannot tell from none (p of 5 % or more)
counts as none.
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

from keras_simple_diffusion.utils.sheets import draw_sheet

DOCS = pathlib.Path(__file__).parents[1] / "docs"
SHEET = DOCS / "ablations_schedules.png"
TRAIN, TEST = "fid_train", "fid_test"
_INTRODUCTION = """# Ablations

The paper's tables 2 to 6, and three more, at a size that two CPU cores can
run: whether its findings show in minutes, too. Every figure here comes from
`docs/ablations.jsonl`, which `benchmarks/ablations.py` writes, and times from
`benchmarks/ablation_costs.py`; this page is written by
`benchmarks/ablations_report.py`.

{setting}

FID of so few pictures is far too large, by the same for all rows: compare it
within a table only. Every row has its mean over seeds, ± their standard
deviation. *Difference* is that of the FID against held-out pictures from the
first row, in standard errors, with the p of Welch's t-test, which takes into
account how few seeds there are; from 5 % on it is called none, and of one seed
nothing is claimed. The paper's FIDs, train / eval, are of its own networks
after a million steps; here, after 12,000 pictures, faces can be seen, but
broken ones. *Step time* is a training step's, over that of three blocks and
DWT-2 (at 128 pixels, of shift 32); this machine's are noisy.

![FID of every seed](ablations.png)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, help="for pictures")
    args = parser.parse_args()
    lines = (DOCS / "ablations.jsonl").read_text().splitlines()
    cells = collections.defaultdict(list)
    for line in map(json.loads, lines):
        cells[line["cell"]].append(line)
    costs = read_costs()
    if args.work:
        draw_schedules(args.work, cells)
    parts = [
        _INTRODUCTION.format(setting=setting_of(next(iter(cells.values()))[0]))
    ]
    tables = [t for t in TABLES.values() if is_begun(t, cells)]
    for table in tables:
        parts.append(write_table(table, cells, costs))
        if table is TABLES["schedule"] and SHEET.exists():
            labels = ", ".join(label for label, _ in drawn_rows(cells))
            parts.append(
                f"![Pictures drawn from the same noise]({SHEET.name})\n\n"
                f"From the same noise, a row each: {labels}.\n"
            )
    (DOCS / "ablations.md").write_text("\n".join(parts))
    plot(tables, cells, DOCS / "ablations.png")


def is_begun(table, cells):
    """Whether there is something to compare with the first row."""
    first, *others = (cell for _, cell, _ in table.rows)
    return first in cells and any(cell in cells for cell in others)


def read_costs():
    path = DOCS / "ablations_costs.json"
    return json.loads(path.read_text())["cells"] if path.exists() else {}


def setting_of(line):
    """A paragraph that says how the cells were trained and measured."""
    versions = ", ".join(f"{k} {v}" for k, v in line["versions"].items())
    return textwrap.fill(
        f"Each cell trains {line['steps']} steps of {line['batch_size']} "
        "pictures: Caltech-101's 290 aligned training photographs of faces (50 "
        "of them where dropout is looked at), at 64 pixels, for schedules and "
        "the multiscale loss at 128. Then "
        f"{line['num_images']} pictures are drawn with "
        f"{line['sampling_steps']} steps of DPM-Solver++. "
        f"({versions}; {line['device']}.)",
        width=80,
    )


def write_table(table, cells, costs):
    """A table of Markdown, with what it says beside the paper."""
    timed = any(cell in costs for _, cell, _ in table.rows[1:])
    head = ["", "FID train", "FID held out", "KID held out", "difference"]
    head += ["GMACs", "step time"] if timed else []
    head += ["the paper", "as in the paper"]
    rows = [head, ["---"] * len(head)]
    first = cells.get(table.rows[0][1], [])
    for label, cell, published in table.rows:
        runs = cells.get(cell, [])
        if not runs:
            continue
        score = None if runs is first else separation(runs, first)
        row = [label, spread(runs, TRAIN), spread(runs, TEST)]
        row += [spread(runs, "kid_test", 1000) + "e-3"]
        row += ["{:+.1f} (p {:.2g})".format(*score) if score else ""]
        if timed:
            ratio = costs.get(cell, {}).get("ratio")
            row += [str(runs[0]["gmacs"]), f"{ratio}" if ratio else ""]
        row += ["{:.2f} / {:.2f}".format(*published) if published else ""]
        row += [verdict(score, published, table.rows[0][2])]
        rows.append(row)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    seeds = {len(cells[c]) for _, c, _ in table.rows if c in cells}
    count = (
        str(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    )
    return (
        f"## {table.title}\n\nThe paper: {table.paper}. Seeds: {count}.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def spread(runs, key, scale=1):
    """Mean and standard deviation over seeds."""
    values = [scale * run[key] for run in runs]
    text = f"{statistics.mean(values):.1f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.1f}"
    return text


def separation(runs, base, key=TEST):
    """Difference of the means in standard errors, and p of Welch's t-test.

    Returns:
        A tuple, or `None` where there are single seeds.
    """
    x, y = [r[key] for r in runs], [r[key] for r in base]
    if min(len(x), len(y)) < 2:
        return None
    test = scipy.stats.ttest_ind(x, y, equal_var=False)
    return test.statistic, test.pvalue


def verdict(score, published, first):
    """Whether the sign of a difference is that of the paper's held-out FID.

    Empty for the first row, and where the paper has no figure.
    """
    if published in (None, first):
        return ""
    if score is None:
        return "one seed"
    difference, p = score
    if p >= 0.05:
        return "no difference"
    return (
        "yes" if (difference > 0) == (published[1] > first[1]) else "reversed"
    )


def drawn_rows(cells):
    """Label and cell of each schedule that is done."""
    rows = [row[:2] for row in TABLES["schedule"].rows]
    return [row for row in rows if row[1] in cells]


def draw_schedules(work, cells):
    """The first pictures that each schedule has drawn, a row each."""
    drawn = [
        measured.read_pictures(work / f"{cell}-0.zip", 8)
        for _, cell in drawn_rows(cells)
    ]
    draw_sheet(np.concatenate(drawn), columns=8).save(SHEET)


def plot(tables, cells, path):
    columns = min(len(tables), 3)
    rows = math.ceil(len(tables) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.8 * columns, 2.8 * rows), squeeze=False
    )
    axes = axes.ravel()
    for axis, table in zip(axes, tables, strict=False):
        shown = [row for row in table.rows if row[1] in cells]
        for place, (_, cell, _) in enumerate(shown):
            values = [run[TEST] for run in cells[cell]]
            axis.plot(values, [place] * len(values), "o", alpha=0.7)
        axis.set_yticks(range(len(shown)), [label for label, _, _ in shown])
        axis.set(title=table.title, xlabel="FID, held out")
        axis.margins(y=0.2)
        axis.invert_yaxis()
    for axis in axes[len(tables) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
