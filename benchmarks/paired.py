"""Rows of two things measured in turn, and comparison with committed ones.

A row is a dict: its `"name"`, the medians `"before"` and `"now"`, the median
`"ratio"` of the rounds with its `"quartiles"`, and a text `"aim"`. A file
has one JSON object a line, with rows among other things; of several rows of one
name the last one counts.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("keras", "keras-hub", "jax", "tensorflow", "torch")
# Of a ratio, from run to run: a share of it, and where it is small.
NOISE, LEAST_NOISE = 0.05, 0.01


@contextlib.contextmanager
def checkout(commit):
    """Context with a folder of the files of a commit."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "before"
        subprocess.run([*git, "add", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)


def row(name, before, now, aim="", digits=3):
    """Make a row from the numbers of all rounds."""
    before, now = np.array(before), np.array(now)
    low, middle, high = np.percentile(now / before, [25, 50, 75])
    return {
        "name": name,
        "before": round(float(np.median(before)), digits),
        "now": round(float(np.median(now)), digits),
        "ratio": round(float(middle), 3),
        "quartiles": [round(float(low), 3), round(float(high), 3)],
        "aim": aim,
    }


def table(rows, before="before", now="now"):
    """The rows in Markdown."""
    lines = [
        f"| | {before} | {now} | ratio (quartiles) | aim |",
        "|---|---|---|---|---|",
    ]
    for each in rows:
        low, high = each["quartiles"]
        ratio = f"{each['ratio']:.2f}"
        if high > low:
            ratio += f" ({low:.2f} to {high:.2f})"
        numbers = [f"{each[key]:,.4g}" for key in ("before", "now")]
        cells = [each["name"], *numbers, ratio, each["aim"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def versions():
    """Versions of the packages, a dict; `None` for those that are not here."""
    found = {}
    for name in PACKAGES:
        found[name] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def setting():
    """Versions and machine, in words."""
    known = [f"{name} {v}" for name, v in versions().items() if v]
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {platform.system()}"
    return f"{', '.join(known)}; {cores} cores, {machine}"


def write(path, rows, **facts):
    """Append a line to a file."""
    line = {**facts, "rows": rows, "setting": setting()}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def load(path):
    """Rows of a file by name."""
    lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
    return {each["name"]: each for line in lines for each in line["rows"]}


def has_moved(one, other):
    """Test if each ratio is outside the other's quartiles and the noise."""
    return is_outside(one["ratio"], other["quartiles"]) and is_outside(
        other["ratio"], one["quartiles"]
    )


def is_outside(ratio, quartiles):
    """Test if a ratio is outside quartiles, widened by the noise."""
    low, high = quartiles
    low = low * (1.0 - NOISE) - LEAST_NOISE
    high = high * (1.0 + NOISE) + LEAST_NOISE
    return not low <= ratio <= high


def tell(rows, path, less="better"):
    """Print the ratios beside committed ones, and which of them moved.

    Args:
        rows: list of rows.
        path: path of a file with committed ones.
        less: what less is, `"better"` or `"worse"`.
    """
    known = load(path)
    for each in rows:
        name, now = each["name"], each["ratio"]
        if name not in known:
            print(f"{name}: {path} has no such row")
            continue
        then, verdict = known[name]["ratio"], "as before"
        if has_moved(each, known[name]):
            is_better = (now < then) == (less == "better")
            verdict = f"MOVED: {'better' if is_better else 'WORSE'}"
        print(f"{name:60}{then:8.3f} -> {now:.3f}  {verdict}")
