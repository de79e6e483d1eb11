"""Committed figures of `contest.py`, and comparison with new ones."""

import json
import pathlib

import numpy as np
import paired
import turns

# What two measurements must share to be comparable.
SETTING = ("task", "network", "batch_size", "dtype", "guidance")


def key_of(line):
    """Return the setting of a line as a tuple."""
    clock = line.get("clock", "perf_counter"), line["cpus"]
    facts = is_compiled(line), line["base"], *clock
    return (*(line[name] for name in SETTING), *facts)


def is_compiled(line):
    """Test if a line has contenders that are compiled by PyTorch."""
    return any(name.endswith("compiled") for name in line["rows"])


def over_bayesflow(line):
    """Ratios of multiply-accumulates a second to BayesFlow's on the backend.

    Args:
        line: dict, a result of `contest.py`.

    Returns:
        A dict of `turns.ratio` by the name of the contender.
    """
    found = {}
    for name, row in line["rows"].items():
        other = line["rows"].get(name.replace("ours", "bayesflow"))
        if name.startswith("ours") and other is not None:
            seconds, theirs = (
                np.array(each["seconds"]) / each["gmacs"]
                for each in (row, other)
            )
            found[name] = turns.ratio(theirs, seconds)
    return found


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
        if before is None:
            continue
        has_moved = paired.has_moved(row, before)
        found.append((name, before["ratio"], row["ratio"], has_moved))
    return found


def tell(line, path):
    """Print changes from the committed figures that exceed the noise."""
    committed = load(path).get(key_of(line))
    if committed is None:
        print(f"{path} has no figures of this setting")
        return
    for name, before, now, has_moved in moves(line, committed):
        verdict = "MOVED" if has_moved else "as before"
        if has_moved:
            verdict += ": SLOWER" if now > before else ": faster"
        print(f"{name:24}{before:8.3f} -> {now:.3f}  {verdict}")
