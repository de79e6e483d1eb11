"""Write the tables of docs/performance.md from the committed JSON files.

    python benchmarks/performance_report.py

Replaces only the text between the two marks.
"""

import json
import pathlib

import committed
import numpy as np
import turns

DOCS = pathlib.Path(__file__).parent.parent / "docs"
BEGIN = "<!-- tables of performance_report.py -->\n"
END = "<!-- end of the tables -->\n"
TITLES = {
    "train": "Training step",
    "forward": "Forward pass",
    "sample": "Sampling",
}


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def ratio_text(ratio):
    low, high = ratio["quartiles"]
    return f"{ratio['ratio']:.2f} ({low:.2f} to {high:.2f})"


def twin_of(name):
    """Return the name of a contender's hand-written twin."""
    if not name.startswith("ours"):
        return None
    compiled = " compiled" if name.endswith("compiled") else ""
    if name == "ours jax":
        return "twin jax"
    return f"twin torch{compiled}"


def contest_table(line):
    seconds = {n: np.array(r["seconds"]) for n, r in line["rows"].items()}
    by_processor = line.get("clock") == "process_time"
    bayesflow = committed.over_bayesflow(line)
    rows = []
    for name, row in line["rows"].items():
        twin = twin_of(name)
        beside = ""
        if twin in seconds:
            beside = ratio_text(turns.ratio(seconds[name], seconds[twin]))
        rows.append(
            [
                name,
                f"{row['images_per_second']:.1f}",
                f"{row['gmacs_per_second']:.0f}",
                ratio_text(row),
                beside,
                ratio_text(bayesflow[name]) if name in bayesflow else "",
                # The product was measured by the clock.
                "" if by_processor else f"{row['share_of_matmul']:.2f}",
                row["peak_mib"],
            ]
        )
    header = [
        "",
        "images/s",
        "GMACs/s",
        f"time relative to {line['base']}",
        "time relative to its twin",
        "GMACs/s relative to bayesflow",
        "share of matmul",
        "peak MiB",
    ]
    # Without the columns that are empty.
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    header, *rows = ([row[i] for i in kept] for row in (header, *rows))
    return table(header, rows)


def versions(line):
    known = {n: v for n, v in line["versions"].items() if v}
    return ", ".join(f"{name} {version}" for name, version in known.items())


def contest_section(line):
    title = f"{TITLES[line['task']]}, {line['network']}"
    if committed.is_compiled(line):
        title += ", compiled by PyTorch"
    kinds = {name.split()[0] for name in line["rows"]}
    if kinds == {"ours", "bayesflow"}:
        title += f", beside BayesFlow on {line['base'].split()[1]}"
    first = next(iter(line["rows"].values()))
    setting = (
        f"{first['gmacs']:.2f} GMACs, {line['batch_size']} images, "
        f"{line['dtype']}, {line['rounds']} rounds"
    )
    if line["task"] == "sample":
        setting += f", guidance {line['guidance']}"
    if line.get("clock") == "process_time":
        setting += ", seconds of the processor"
    cpus = f"{line['cpus']} CPUs" if line["cpus"] > 1 else "one core"
    return (
        f"## {title}\n\n{setting}; {cpus}, "
        f"{line['machine']}; {versions(line)}.\n\n{contest_table(line)}\n"
    )


def first_calls_section(lines):
    """The rows of all lines; those measured by the clock and the processor."""
    rows = [
        [
            name,
            line["rounds"],
            row["seconds"],
            row.get("processor", ""),
            ratio_text(row) if "ratio" in row else "",
            row.get("processor_ratio", ""),
        ]
        for line in lines
        for name, row in line["first"].items()
    ]
    header = ["", "processes", "first step minus a later one (s)"]
    header += ["of the processor (s)", "first call relative to its twin"]
    header.append("of the processor")
    return (
        "## First calls\n\nEach is measured in new processes, without a cache; "
        "those with seconds of the processor beside other work.\n"
        f"\n{table(header, rows)}\n"
    )


def growth_section(found):
    rows = [
        [name, r["label"], f"{r['gmacs']:.1f}", r["seconds"], r["first"]]
        for name, series in found["series"].items()
        for r in series
    ]
    header = ["", "", "GMACs per step", "step (s)", "first call (s)"]
    return (
        f"## Growth\n\nOn {found['backend']}, small U-ViT, "
        f"{found['rounds']} rounds.\n\n"
        f"![Growth](performance_growth.png)\n\n{table(header, rows)}\n"
    )


def main():
    lines = committed.load(DOCS / "performance.jsonl").values()
    sections = [contest_section(line) for line in lines]
    path = DOCS / "performance_first_calls.jsonl"
    if path.exists():
        lines = map(json.loads, path.read_text().splitlines())
        sections.append(first_calls_section(lines))
    growth = DOCS / "performance_growth.json"
    if growth.exists():
        sections.append(growth_section(json.loads(growth.read_text())))
    page = DOCS / "performance.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + "\n" + "".join(sections) + END + after)


if __name__ == "__main__":
    main()
