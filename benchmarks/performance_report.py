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
                f"{row['share_of_matmul']:.2f}",
                row["peak_mib"],
            ]
        )
    header = [
        "",
        "images/s",
        "GMACs/s",
        f"time relative to {line['base']}",
        "time relative to its twin",
        "share of matmul",
        "peak MiB",
    ]
    return table(header, rows)


def versions(line):
    known = {n: v for n, v in line["versions"].items() if v}
    return ", ".join(f"{name} {version}" for name, version in known.items())


def contest_section(line):
    title = f"{TITLES[line['task']]}, {line['network']}"
    if committed.is_compiled(line):
        title += ", compiled by PyTorch"
    first = next(iter(line["rows"].values()))
    setting = (
        f"{first['gmacs']:.2f} GMACs, {line['batch_size']} images, "
        f"{line['dtype']}, {line['rounds']} rounds"
    )
    if line["task"] == "sample":
        setting += f", guidance {line['guidance']}"
    return (
        f"## {title}\n\n{setting}; {line['cpus']} CPUs, "
        f"{line['machine']}; {versions(line)}.\n\n{contest_table(line)}\n"
    )


def startup_section(line):
    rows = []
    jobs = [job for found in line["rows"].values() for job in found]
    for job in dict.fromkeys(jobs):
        for backend, found in line["rows"].items():
            if job not in found:
                continue
            cells = [f"{job}, {backend}"]
            for name in ("seconds", "processor"):
                row = found[job][name]
                low, high = row["quartiles"]
                cells += [row["before"], row["now"]]
                cells.append(f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})")
            memory = found[job]["memory"]
            cells.append(f"{memory['before']:.0f}, {memory['now']:.0f}")
            rows.append(cells)
    header = ["", f"{line['against']} (s)", "now (s)", "ratio"]
    header += ["processor before (s)", "now (s)", "ratio", "peak MiB"]
    return (
        "## Whole processes\n\n"
        f"Medians of {line['rounds']} new processes each, in turn with those "
        f"of commit {line['against']}; `generate` draws one image with "
        f"`emoji`.\n\n{table(header, rows)}\n"
    )


def first_calls_section(line):
    rows = [
        [name, row["seconds"], ratio_text(row) if "ratio" in row else ""]
        for name, row in line["first"].items()
    ]
    header = ["", "first step minus a later one (s)"]
    header.append("first call relative to its twin")
    return (
        "## First calls\n\n"
        f"Measured in {line['rounds']} new processes each.\n"
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
    for name, section in (
        ("startup", startup_section),
        ("first_calls", first_calls_section),
    ):
        path = DOCS / f"performance_{name}.jsonl"
        if path.exists():
            last = path.read_text().splitlines()[-1]
            sections.append(section(json.loads(last)))
    growth = DOCS / "performance_growth.json"
    if growth.exists():
        sections.append(growth_section(json.loads(growth.read_text())))
    page = DOCS / "performance.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + "\n" + "".join(sections) + END + after)


if __name__ == "__main__":
    main()
