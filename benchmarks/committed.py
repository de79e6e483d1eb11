"""Committed figures of `contest.py`, and comparison with new ones."""

import json
import pathlib

# What two measurements must share to be comparable.
SETTING = ("task", "network", "batch_size", "dtype", "guidance")
NOISE = 0.05  # Of a ratio of medians, from run to run.


def key_of(line):
    """Return the setting of a line as a tuple."""
    return (*(line[name] for name in SETTING), is_compiled(line))


def is_compiled(line):
    """Test if a line has contenders that are compiled by PyTorch."""
    return any(name.endswith("compiled") for name in line["rows"])


def load(path):
    """Read the last line of each setting from a file of JSON lines."""
    lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
    return {key_of(line): line for line in lines}


def moves(line, committed):
    """Compare the ratios to the base with committed ones.

    Args:
        line: dict, a result of `contest.py`.
        committed: dict, a line of the same setting.

    Returns:
        A list of `(name, then, now, has_moved)`. A ratio has moved if each
        ratio of medians is outside the other's quartiles, widened by the noise
        between runs.
    """
    found = []
    for name, row in line["rows"].items():
        before = committed["rows"].get(name)
        if before is None or line["base"] != committed["base"]:
            continue
        outside = _is_outside(row["ratio"], before["quartiles"])
        outside &= _is_outside(before["ratio"], row["quartiles"])
        found.append((name, before["ratio"], row["ratio"], outside))
    return found


def _is_outside(ratio, quartiles):
    low, high = quartiles
    return not low * (1.0 - NOISE) <= ratio <= high * (1.0 + NOISE)


def tell(line, path):
    """Print changes from the committed figures that exceed the noise."""
    committed = load(path).get(key_of(line))
    if committed is None:
        print(f"{path} has no figures of this setting")
        return
    for name, before, now, has_moved in moves(line, committed):
        verdict = "MOVED" if has_moved else "as before"
        if has_moved:
            verdict += ": slower" if now > before else ": faster"
        print(f"{name:24}{before:8.3f} -> {now:.3f}  {verdict}")
