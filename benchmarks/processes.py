"""The time that processes have computed, on Linux."""

import os
import pathlib


def processor_seconds(root=None):
    """Return the seconds that a process and all below it have computed.

    Args:
        root: int, the number of the process. Defaults to this one.

    Returns:
        A float. Processes that have ended are not counted.
    """
    parents, ticks = {}, {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold spaces.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # It has ended.
            continue
        number = int(path.parent.name)
        parents[number] = int(fields[1])
        ticks[number] = int(fields[11]) + int(fields[12])
    family = {root or os.getpid()}
    for number in sorted(parents):
        if parents[number] in family:
            family.add(number)
    total = sum(ticks[number] for number in family)
    return total / os.sysconf("SC_CLK_TCK")
