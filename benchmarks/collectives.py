"""Bytes that the devices of a compiled program exchange, read from its text.

The text is XLA's HLO after compilation, `compiled.as_text()` of JAX: one
program that runs on every device.
"""

import collections
import math
import re

# Other types have their number of bits behind a letter, such as `f8e4m3fn`.
_BITS = {"pred": 8, "bf16": 16}
_KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# A type is an array or a tuple of these; layouts have parentheses on TPUs.
_TYPE = r"\((?:[^()]|\([^()]*\))*\)|\S+"
_COLLECTIVE = re.compile(
    rf"^\s*(?:ROOT )?%?[\w.-]+ = ({_TYPE}) ({'|'.join(_KINDS)})(-start)?\((.*)"
)


def sent_bytes(text):
    """Add up the bytes that each device sends, by kind of collective.

    Rings are assumed, which send the fewest bytes: a device of `n` sends
    `(n - 1) / n` of an array to gather, to scatter or to exchange it, and
    twice as much to add it up everywhere.

    Args:
        text: string, the program.

    Returns:
        A dict from the kind, such as `"all-reduce"`, to a float.

    Raises:
        ValueError: if a collective is within a loop or a branch, whose number
            of runs is not known, or is asynchronous, as on GPUs and TPUs.

    References:
        - [Thakur et al., 2005](https://doi.org/10.1177/1094342005051521)
    """
    total = collections.Counter()
    in_entry = False
    for line in text.splitlines():
        if line and not line[0].isspace():
            in_entry = line.startswith("ENTRY")
        found = _COLLECTIVE.match(line)
        if not found:
            continue
        result, kind, is_asynchronous, rest = found.groups()
        if is_asynchronous or not in_entry:
            raise ValueError(f"This collective cannot be counted: {line}")
        size = array_bytes(result)
        if kind == "collective-permute":
            total[kind] += size
            continue
        count = group_size(rest)
        share = (count - 1) / count
        factor = {
            "all-reduce": 2 * share,
            "reduce-scatter": count - 1,  # Of the part that it keeps.
        }.get(kind, share)
        total[kind] += factor * size
    return dict(total)


def array_bytes(result):
    """Number of bytes of a type, such as `(f32[], bf16[2,8]{1,0})`."""
    total = 0
    for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
        bits = _BITS.get(dtype) or int(re.search(r"\d+", dtype)[0])
        total += math.prod(map(int, filter(None, shape.split(",")))) * bits // 8
    return total


def group_size(attributes):
    """Number of devices that one collective joins.

    Args:
        attributes: string with its `replica_groups`, in one of three forms:
            `{{0,1},{2,3}}`; `[2,4]<=[8]`, two groups of four;
            `mesh['a'=2,'b'=4] {'b'}`, groups along axes of a mesh.
    """
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(listed[1].split(","))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
        return int(iota[1])
    mesh = re.search(
        r"replica_groups=mesh\[([^]]*)\][^{]*\{([^}]*)\}", attributes
    )
    if mesh is None:
        raise ValueError(f"These groups cannot be read: {attributes}")
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
