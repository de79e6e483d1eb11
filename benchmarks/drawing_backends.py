"""Compare drawing on OpenVINO with the other backends, in turn.

    taskset -c 0 python benchmarks/drawing_backends.py

Each backend draws the same images of a shipped model in a process of its own;
the processes take turns. Beside other work the seconds of the processor say
more than those of the clock, so both are printed, with the greatest difference
from the images of the first backend in grey levels, and the greatest memory.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PROMPTS = ("man astronaut", "crying face", "red heart", "woman farmer")


def work(arguments):
    """Draw once for each line of the input, and write figures as JSON."""
    import numpy as np

    import keras_simple_diffusion as ksd

    model = ksd.models.Preset.open(arguments.model).load()
    count = arguments.batch_size
    if model.backbone.context_dim is None:
        wanted = {"labels": np.arange(count) % model.backbone.num_classes}
    else:
        wanted = {"prompts": [PROMPTS[i % len(PROMPTS)] for i in range(count)]}
    for line in sys.stdin:
        begun, cpu = time.monotonic(), time.process_time()
        images = model.generate(**wanted, seed=0, num_steps=arguments.steps)
        figures = {
            "seconds": time.monotonic() - begun,
            "cpu_seconds": time.process_time() - cpu,
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        np.save(line.strip(), images)
        print(json.dumps(figures), flush=True)


def measure(arguments, folder):
    """Return the figures of each backend, as a list of dicts."""
    import numpy as np

    backends = arguments.backends.split(",")
    command = [sys.executable, __file__, "--work", "--model", arguments.model]
    command += ["--steps", str(arguments.steps)]
    command += ["--batch-size", str(arguments.batch_size)]
    processes = {
        name: subprocess.Popen(
            command,
            env={**os.environ, "KERAS_BACKEND": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in backends
    }
    rounds = {name: [] for name in backends}
    for _ in range(arguments.rounds + 1):
        for name, process in processes.items():
            print(folder / f"{name}.npy", file=process.stdin, flush=True)
            rounds[name].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    images = {name: np.load(folder / f"{name}.npy") for name in backends}
    first = images[backends[0]].astype(int)
    return [
        {
            "backend": name,
            "model": arguments.model,
            "images": arguments.batch_size,
            "steps": arguments.steps,
            "first_cpu_seconds": figures[0]["cpu_seconds"],
            "cpu_seconds": _median(figures, "cpu_seconds"),
            "seconds": _median(figures, "seconds"),
            "mib": figures[-1]["mib"],
            "grey_levels": int(np.abs(images[name] - first).max()),
        }
        for name, figures in rounds.items()
    ]


def _median(figures, name):
    return statistics.median(each[name] for each in figures[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", default="torch,tensorflow,jax,openvino")
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--work", action="store_true")
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return

    with tempfile.TemporaryDirectory() as folder:
        lines = measure(arguments, pathlib.Path(folder))
    lines = [json.dumps(line) for line in lines]
    print(*lines, sep="\n")
    if arguments.output:
        with arguments.output.open("a") as file:
            print(*lines, sep="\n", file=file)


if __name__ == "__main__":
    main()
