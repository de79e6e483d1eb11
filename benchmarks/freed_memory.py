"""Measure the gain on a CPU if `malloc` keeps freed tensors, on TensorFlow.

    python benchmarks/freed_memory.py

Training steps of 64 digits by `uvit_digits_16`, on the library's batches, as
they are and without `reuse_freed_memory`, in processes of their own that take
turns. Prints the medians of step time and page faults, and the ratio.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time

import numpy as np

STEPS, WARM_UP = 20, 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(keeps=args.measure == "with")))
        return
    found = {"without": [], "with": []}
    for _ in range(args.rounds):
        for name, rows in found.items():
            command = [sys.executable, __file__, "--measure", name]
            environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
            output = subprocess.check_output(command, env=environment)
            rows += json.loads(output.splitlines()[-1])
    medians = {name: np.median(rows, axis=0) for name, rows in found.items()}
    for name, (seconds, faults) in medians.items():
        print(f"{name:8} {seconds:.3f} s and {faults:,.0f} page faults a step")
    ratio = medians["without"][0] / medians["with"][0]
    print(f"ratio {ratio:.2f}; {platform.platform()}, {os.cpu_count()} cores")


def measure(keeps):
    """Seconds and page faults of each step."""
    import keras

    import keras_simple_diffusion as ksd
    from keras_simple_diffusion.data import pipeline

    if not keeps:
        pipeline.reuse_freed_memory = lambda: None

    class Steps(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.ends = []

        def on_train_batch_end(self, batch, logs=None):
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            self.ends.append((time.perf_counter(), faults))

    digits = ksd.data.open_data("digits", 16)
    backbone = ksd.models.DiffusionBackbone.from_preset(
        "uvit_digits_16", load_weights=False
    )
    model = ksd.models.DiffusionModel(backbone)
    model.compile(ksd.optimizers.make_optimizer("adam", 1e-3))
    steps = Steps()
    batches = ksd.data.training_batches(digits, 64)
    model.fit(batches, steps_per_epoch=STEPS, verbose=0, callbacks=[steps])
    return np.diff(steps.ends, axis=0)[WARM_UP:].tolist()


if __name__ == "__main__":
    main()
