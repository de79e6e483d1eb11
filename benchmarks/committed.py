"""The figures of `contest.py` that are committed, and what moved since."""

import json
import pathlib

# What two measurements must share to be comparable.
SETTING = ("task", "network", "batch_size", "dtype", "guidance")
NOISE = 0.05  # Of a ratio of medians, from run to run.


def key_of(line):
    """What was measured, as a tuple."""
    return (*(line[name] for name in SETTING), is_compiled(line))


def is_compiled(line):
    """Whether contenders that PyTorch compiles are among those of a line."""
    return any(name.endswith("compiled") for name in line["rows"])


def load(path):
    """The last line of each setting of a file of JSON lines, by setting."""
    lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
    return {key_of(line): line for line in lines}


def moves(line, committed):
    """How ratios to the base differ from committed ones.

    Args:
        line: dict, what `contest.py` found.
        committed: dict, a line of the same setting.

    Returns:
        A list of `(name, then, now, has_moved)`. A ratio has moved where both
        ratios of medians are outside of the other's quartiles, widened by the
        noise between runs.
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
    """Print what moved beyond the noise since the committed figures."""
    committed = load(path).get(key_of(line))
    if committed is None:
        print(f"{path} has no figures of this setting")
        return
    for name, before, now, has_moved in moves(line, committed):
        verdict = "MOVED" if has_moved else "as before"
        if has_moved:
            verdict += ": slower" if now > before else ": faster"
        print(f"{name:24}{before:8.3f} -> {now:.3f}  {verdict}")
