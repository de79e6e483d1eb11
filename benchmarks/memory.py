"""Measure the memory of training: what the gradient keeps, and the peak.

    python benchmarks/memory.py --against COMMIT --output docs/memory.jsonl

Each measurement is a new process, of this version of the library and of that of
a commit, in turn:

- "kept": bytes an image that the forward pass keeps for the gradient, without
  weights: the tensors that PyTorch's autograd saves, and those that JAX's
  `vjp` hands to the backward pass. Nothing is computed.
- "compiled": temporary memory of the training step as JAX compiles it.
- "train": the peak memory of a process that trains, and the seconds of the
  processor of a step, the median without the first.

Prints the table of `docs/performance.md`.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH_SIZE = 8
STEPS = 6
SMALL, FULL = "uvit_small_64", "uvit_imagenet_256"
# Backend, kind, preset.
JOBS = [
    ("torch", "kept", SMALL),
    ("jax", "kept", SMALL),
    ("torch", "kept", FULL),
    ("jax", "kept", FULL),
    ("jax", "compiled", SMALL),
    *((name, "train", SMALL) for name in ("torch", "tensorflow", "jax")),
]
# What is measured of each kind: its unit, and the share aimed at.
MEASURES = {
    "kept": [("MB an image kept for the gradient", 0.6)],
    "compiled": [("MB an image of temporary memory, compiled", 0.6)],
    "train": [
        ("MiB at the peak of a training process", 0.6),
        ("seconds of the processor a step", 1.05),
    ],
}
PACKAGES = ("keras", "keras-hub", "jax", "tensorflow", "torch")


# === In a process of its own ===


def kept(preset):
    """Megabytes an image that are kept for the gradient."""
    if os.environ["KERAS_BACKEND"] == "torch":
        # The one beside the library that is measured: it knows its parts.
        sys.path.insert(0, os.environ["PYTHONPATH"] + "/benchmarks")
        import cost_table

        backbone = cost_table.build(preset, dtype="float32")
        return [cost_table.activation_bytes(backbone) / 1e6]
    import rematerialization

    backbone = rematerialization.abstract_backbone(preset, dtype="float32")
    return [rematerialization.kept_bytes(backbone, 1) / 1e6]


def compiled(preset):
    """Megabytes an image that the compiled step takes beside its state."""
    import rematerialization

    import keras_simple_diffusion as ksd

    backbone = ksd.models.DiffusionBackbone.from_preset(
        preset, load_weights=False
    )
    return [rematerialization.step_bytes(backbone, BATCH_SIZE) / 1e6]


def train(preset):
    """Peak in MiB and seconds of the processor of steps of `fit`."""
    # As the command does, in versions that can.
    with contextlib.suppress(ImportError):
        from keras_simple_diffusion.backend import lazy_imports

        lazy_imports.import_lazily()
    import keras

    import keras_simple_diffusion as ksd

    class Times(keras.callbacks.Callback):
        ends = []

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(time.process_time())

    backbone = ksd.models.DiffusionBackbone.from_preset(
        preset, load_weights=False
    )
    model = ksd.models.DiffusionModel(backbone)
    model.compile(ksd.optimizers.Adam(1e-4))
    shape = (STEPS * BATCH_SIZE, *backbone.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    times = Times()
    model.fit(images, batch_size=BATCH_SIZE, verbose=0, callbacks=[times])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [peak, float(np.median(np.diff(times.ends)))]


def measure(tree, job):
    """Run a job with the library in a folder, and return its numbers."""
    backend, kind, preset = job
    command = [sys.executable, __file__, "--measure", kind, preset]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "KERAS_BACKEND": backend,
    }
    output = subprocess.check_output(command, env=environment, text=True)
    return json.loads(output.splitlines()[-1])


# === Report ===


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


def row_of(job, name, aim, before, now):
    """A row of the table, from the numbers of all rounds."""
    backend, _, preset = job
    return {
        "backend": backend,
        "preset": preset,
        "what": name,
        "before": float(np.median(before)),
        "now": float(np.median(now)),
        "ratio": float(np.median(np.array(now) / before)),
        "aim": aim,
    }


def table(rows):
    lines = ["| | before | now | ratio | aim |", "|---|---|---|---|---|"]
    for row in rows:
        title = f"{row['backend']}, `{row['preset']}`, {row['what']}"
        numbers = [f"{row[name]:,.4g}" for name in ("before", "now")]
        cells = [title, *numbers, f"{row['ratio']:.2f}", row["aim"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", help="An earlier commit.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(MEASURES))
    parser.add_argument("--backends", default="torch,tensorflow,jax")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        kind, preset = args.measure
        function = {"kept": kept, "compiled": compiled, "train": train}[kind]
        print(json.dumps(function(preset)))
        return
    if not args.against:
        parser.error("--against is missing: a commit to compare with.")
    rows = []
    with checkout(args.against) as before:
        for job in JOBS:
            backend, kind, _ = job
            if not (kind in args.kinds.split(",") and backend in args.backends):
                continue
            # Only what is computed differs from round to round.
            rounds = args.rounds if kind == "train" else 1
            pairs = [
                [measure(tree, job) for tree in (before, ROOT)]
                for _ in range(rounds)
            ]
            for i, (name, aim) in enumerate(MEASURES[kind]):
                numbers = [[run[i] for run in pair] for pair in pairs]
                rows.append(row_of(job, name, aim, *zip(*numbers, strict=True)))
                print(rows[-1], flush=True)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    print(table(rows))
    print(
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        sep="; ",
    )
    if args.output:
        line = {"against": args.against, "rounds": args.rounds, "rows": rows}
        with args.output.open("a") as file:
            file.write(json.dumps({**line, "versions": versions}) + "\n")


if __name__ == "__main__":
    main()
