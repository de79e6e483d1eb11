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
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import paired

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
    "kept": [("MB an image kept for the gradient", "at most 0.6")],
    "compiled": [("MB an image of temporary memory, compiled", "at most 0.6")],
    "train": [
        ("MiB at the peak of a training process", "at most 0.6"),
        ("seconds of the processor a step", "at most 1.05"),
    ],
}


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", help="An earlier commit.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(MEASURES))
    parser.add_argument("--backends", default="torch,tensorflow,jax")
    parser.add_argument("--presets", default=f"{SMALL},{FULL}")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument(
        "--compare", type=pathlib.Path, help="committed figures"
    )
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
    with paired.checkout(args.against) as before:
        for job in JOBS:
            backend, kind, preset = job
            wanted = kind in args.kinds.split(",")
            wanted &= backend in args.backends.split(",")
            if not (wanted and preset in args.presets.split(",")):
                continue
            # Only what is computed differs from round to round.
            rounds = args.rounds if kind == "train" else 1
            pairs = [
                [measure(tree, job) for tree in (before, paired.ROOT)]
                for _ in range(rounds)
            ]
            for i, (what, aim) in enumerate(MEASURES[kind]):
                numbers = [[run[i] for run in pair] for pair in pairs]
                name = f"{backend}, `{preset}`, {what}"
                rows.append(
                    paired.row(name, *zip(*numbers, strict=True), aim=aim)
                )
                print(rows[-1], flush=True)
    print(paired.table(rows, f"at {args.against}"))
    print(paired.setting())
    if args.compare:
        paired.tell(rows, args.compare)
    if args.output:
        facts = {"against": args.against, "rounds": args.rounds}
        paired.write(args.output, rows, **facts)


if __name__ == "__main__":
    main()
