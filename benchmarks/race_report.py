"""The table and the curves of what `race.py` has found.

python benchmarks/race_report.py      # writes docs/race.md and .png
"""

import json
import pathlib

import matplotlib.pyplot as plt

DOCS = pathlib.Path(__file__).parents[1] / "docs"
_PAGE = """# Race

The same 290 photographs of faces (Caltech-101's aligned ones) at 64 pixels, the
same minutes, the same evaluator: FID and KID of 500 drawn pictures, with 24
evaluations of the network each. Everybody has one thread and a clock of
processor time, which on a free core is the wall clock's; drawing does not
count, compiling does. Written by `benchmarks/race_report.py` from
`docs/race.jsonl`, which `benchmarks/race.py` writes.

Networks are about as large as each other in multiply-accumulates; all else is
each project's own default, see the settings below. Everybody tried three
learning rates for three minutes, and went on with the one of the best FID.

![FID against minutes](race.png)

After {minutes:g} minutes, best first:

{ranking}

## Learning rates

FID against held-out pictures after three minutes:

{rates}

## Settings

{settings}
"""


def main():
    lines = (DOCS / "race.jsonl").read_text().splitlines()
    lines = list(map(json.loads, lines))
    longest = max(line["marks"][-1]["minutes"] for line in lines)
    finals = [x for x in lines if x["marks"][-1]["minutes"] == longest]
    finals.sort(key=lambda line: line["marks"][-1]["fid_test"])
    pilots = [line for line in lines if line not in finals]
    page = _PAGE.format(
        minutes=longest,
        ranking=write_ranking(finals),
        rates=write_rates(pilots),
        settings=write_settings(finals),
    )
    (DOCS / "race.md").write_text(page)
    plot(finals, DOCS / "race.png")


def markdown(rows):
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_ranking(finals):
    rows = [["", "FID held out", "FID train", "KID held out", "pictures seen"]]
    for line in finals:
        mark = line["marks"][-1]
        error = mark["fid_standard_error_test"]
        rows.append(
            [
                line["project"],
                f"{mark['fid_test']:.1f} ± {error:.1f}",
                f"{mark['fid_train']:.1f}",
                f"{1000 * mark['kid_test']:.0f}e-3",
                f"{mark['pictures']:,}",
            ]
        )
    return markdown(rows)


def write_rates(pilots):
    rows = [["", "learning rate: FID"]]
    for project in dict.fromkeys(line["project"] for line in pilots):
        tried = [line for line in pilots if line["project"] == project]
        scores = [
            f"{x['rate']:g}: {x['marks'][-1]['fid_test']:.0f}" for x in tried
        ]
        rows.append([project, ", ".join(scores)])
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
    figure, axis = plt.subplots(figsize=(7, 4.5))
    for line in finals:
        minutes = [mark["minutes"] for mark in line["marks"]]
        fids = [mark["fid_test"] for mark in line["marks"]]
        axis.plot(minutes, fids, "o-", label=line["project"])
    axis.set(
        xlabel="minutes of training", ylabel="FID, held out", ylim=(0, None)
    )
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
