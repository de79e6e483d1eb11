"""Show where a training step on JAX and a CPU spends its time.

    taskset -c 0 python benchmarks/jax_profile.py "ours jax"

The name is that of a contender of `contest.py`. It traces a few steps, and
prints a table in Markdown: the milliseconds of each kind of operation of the
compiled step, its share, its multiply-accumulates and their rate, beside the
rate of a matrix product in the same process. Durations of operations are by the
clock; the fastest of the traced steps counts for each.
"""

import argparse
import collections
import importlib
import math
import os
import pathlib
import re
import tempfile

import measures
from contenders import Setting
from contest import CONTENDERS
from contest import NETWORKS

STEPS = 3
BATCH_SIZE = 8
INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$"
)
# Operations that hold others, which are events of their own.
CONTAINERS = ("while", "call", "conditional")


def parse(text):
    """Instructions by name, and the names of those in each computation."""
    found, computations, body = {}, {}, []
    for line in text.splitlines():
        header = re.match(r"^(?:ENTRY )?%([\w.-]+) \(.*\{$", line)
        if header:
            body = computations[header[1]] = []
        match = INSTRUCTION.match(line)
        if match:
            name, shape, opcode, rest = match.groups()
            sizes = re.search(r"\[([\d,]*)\]", shape)
            sizes = [int(n) for n in sizes[1].split(",") if n] if sizes else []
            found[name] = (opcode, sizes, rest)
            body.append(name)
    return found, computations


def multiplications(name, found, computations):
    """Multiply-accumulates of an instruction."""
    opcode, sizes, rest = found[name]
    operands = re.findall(r"%([\w.-]+)", rest)
    if opcode == "convolution":
        labels = re.search(r"_(\w+)->", rest)[1]
        kernel = found[operands[1]][1]
        # All of the kernel but its outputs is summed over.
        outputs = kernel[labels.index("o")]
        return math.prod(sizes) * math.prod(kernel) // outputs
    if opcode == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)[1]
        left = found[operands[0]][1]
        summed = math.prod(left[int(axis)] for axis in axes.split(",") if axis)
        return math.prod(sizes) * summed
    if opcode == "fusion":
        body = computations[re.search(r"calls=%([\w.-]+)", rest)[1]]
        return sum(multiplications(each, found, computations) for each in body)
    return 0


def kind_of(name, found, macs):
    """Kind of an instruction, a row of the table."""
    opcode, _, rest = found[name]
    path = re.search(r'op_name="(.*?)"', rest)
    path = path[1] if path else ""
    is_gradient = "transpose(jvp" in path and "rematted" not in path
    if opcode == "convolution":
        # That of a kernel slides one feature map over another.
        if int(re.search(r"size=(\d+)", rest)[1]) > 7:
            return "convolutions, gradients of kernels"
        part = "gradients of inputs" if is_gradient else "forward"
        return f"convolutions, {part}"
    if macs:
        part = "gradients" if is_gradient else "forward"
        return f"products, convolutions in fusions, {part}"
    if "copy" in name or "transpose" in name or opcode in ("copy", "transpose"):
        return "copies, transposed or not"
    if "jvp" not in path:
        return "optimizer, averages, noise and loss"
    part = "gradients" if "transpose(jvp" in path else "forward"
    return f"norms, activations, sums, {part}"


def trace(name, network, folder):
    """Seconds of each event of the traced steps, a dict of lists."""
    import jax

    file, *_ = CONTENDERS[name]
    setting = Setting("train", NETWORKS[network], BATCH_SIZE, 1)
    run, facts = importlib.import_module(f"contenders.{file}").make(setting)
    for _ in range(2):
        run()
    seconds = collections.defaultdict(list)
    for step in range(STEPS):
        place = folder / str(step)
        with jax.profiler.trace(str(place)):
            run()
        (path,) = place.glob("**/*.xplane.pb")
        once = collections.Counter()
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    once[event.name] += event.duration_ns / 1e9
        for event, duration in once.items():
            seconds[event].append(duration)
    return seconds, facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contender", help="such as 'ours jax'")
    parser.add_argument("--network", default="uvit_small")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        os.environ["KERAS_BACKEND"] = "jax"
        os.environ["XLA_FLAGS"] = (
            f"--xla_dump_to={folder}/hlo --xla_dump_hlo_as_text "
            "--xla_dump_hlo_module_re=.*step.*"
        )
        seconds, facts = trace(args.contender, args.network, folder)
        files = (folder / "hlo").glob("*after_optimizations.txt")
        text = max(files, key=lambda path: path.stat().st_size).read_text()
    report(text, seconds, facts, measures.matmul("jax"), args)


def report(text, seconds, facts, matmul, args):
    """Print the table."""
    found, computations = parse(text)
    times, operations = collections.Counter(), collections.Counter()
    for name in seconds:
        if name not in found or found[name][0] in CONTAINERS:
            continue
        macs = multiplications(name, found, computations)
        kind = kind_of(name, found, macs)
        times[kind] += min(seconds[name])
        operations[kind] += macs
    total = sum(times.values())
    print(
        f"{args.contender}, {args.network}, {BATCH_SIZE} images: "
        f"{1000 * total:,.0f} ms a step in operations; 3 times the forward "
        f"pass are {3 * BATCH_SIZE * facts['gmacs']:.1f} GMACs; a matrix "
        f"product {matmul:.0f} GMACs/s.\n"
    )
    print("| | ms | share | GMACs | GMACs/s |\n|---|---|---|---|---|")
    for kind, duration in times.most_common():
        gmacs = operations[kind] / 1e9
        cells = [kind, f"{1000 * duration:,.0f}", f"{duration / total:.0%}"]
        cells += ["", ""]
        if gmacs:
            cells[3:] = [f"{gmacs:.1f}", f"{gmacs / duration:.0f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
