"""Compare exported models with `generate`: images, size and speed.

    taskset -c 0 python benchmarks/export_formats.py --model emoji --steps 4

Every contender draws the same images from the same noise, on one thread, in
turn in a process of its own: `generate` on each backend, and each format and
precision of `export`; or those of `--contenders "generate, JAX;onnx, float32"`.
Seconds are those of the processor. Differences are those from the first
contender. It prints a table in Markdown, and the versions. `--folder` keeps
what was exported, and finds it again.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from turns import serve
from turns import take_turns

BACKENDS = {
    "tensorflow": "generate, TensorFlow",
    "jax": "generate, JAX",
    "torch": "generate, PyTorch",
}
TEXTS = ("man astronaut", "woman farmer", "grinning face", "raised hand")
EXPORTS = (
    ("onnx", "float32"),
    ("onnx", "float16"),
    ("openvino", "float32"),
    ("openvino", "float16"),
    ("openvino", "bfloat16"),
    ("saved_model", "float32"),
)
PACKAGES = (
    *("keras", "jax", "tensorflow", "torch", "tf2onnx"),
    *("onnxruntime", "openvino"),
)
# The backend of each contender; exported models need none.
NAMES = {name: backend for backend, name in BACKENDS.items()}
NAMES |= {f"{form}, {precision}": "" for form, precision in EXPORTS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contenders", default=";".join(NAMES))
    parser.add_argument("--folder", help="default: a temporary one")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker == "export":
        export(pathlib.Path(args.folder), args)
        return
    if args.worker:
        work(args.worker, pathlib.Path(args.folder), args)
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.folder is None:
            sys.argv += ["--folder", folder]
        folder = pathlib.Path(args.folder or folder)
        subprocess.run(
            [sys.executable, *sys.argv, "--worker", "export"],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            check=True,
        )
        names = args.contenders.split(";")
        facts, seconds = take_turns(names, args.rounds, environment)
        report(args, folder, facts, seconds)


def environment(name):
    """Return the environment of a contender."""
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    if NAMES[name]:
        threads["KERAS_BACKEND"] = NAMES[name]
    return {**os.environ, **threads}


def export(folder, args):
    """Write a folder in each format and precision."""
    names = args.contenders.split(";")
    missing = [
        (form, precision)
        for form, precision in EXPORTS
        if f"{form}, {precision}" in names
        and not (folder / f"{form}, {precision}").exists()
    ]
    if not missing:
        return
    import keras_simple_diffusion as ksd

    model = ksd.models.Preset.open(args.model).load()
    for form, precision in missing:
        ksd.export.export_model(
            model,
            folder / f"{form}, {precision}",
            format=form,
            precision=precision,
            num_steps=args.steps,
        )


def work(name, folder, args):
    """Draw, again for each turn, and leave the first images in a file."""
    file = next(folder.glob("*/model.json"))
    settings = json.loads(file.read_text("utf-8"))
    numbers = range(args.images)
    conditions = {
        None: [],
        "label": [i % (settings["num_classes"] or 1) for i in numbers],
        "text": [TEXTS[i % len(TEXTS)] for i in numbers],
    }[settings["condition"]]
    shape = settings["num_noises"], args.images, *settings["image_shape"]
    noise = np.random.default_rng(0).normal(size=shape).astype("float32")
    if name in BACKENDS.values():
        draw = generate(args, settings["condition"], conditions, noise[0])
    else:
        draw = draw_alone(folder / name, conditions, noise)
    images = []

    def run():
        # Other work on the machine changes it less than the time by the clock.
        started = time.process_time()
        images[:] = draw()
        return time.process_time() - started

    def keep():
        np.save(folder / f"{name}.npy", np.stack(images))
        return {}

    serve(run, keep)


def generate(args, condition, conditions, noise):
    """Return a function that draws with Keras."""
    import keras_simple_diffusion as ksd

    model = ksd.models.Preset.open(args.model).load()
    names = {None: {}, "label": {"labels": conditions}}
    names["text"] = {"prompts": conditions}
    return functools.partial(
        model.generate,
        **names[condition] or {"num_images": args.images},
        num_steps=args.steps,
        noise=noise,
    )


def draw_alone(folder, conditions, noise):
    """Return a function that draws without Keras, on one thread."""
    sys.path.insert(0, str(folder))
    import draw

    if (folder / "denoiser.onnx").exists():
        import onnxruntime

        # Beyond those that the process may use it would start more threads.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        onnxruntime.InferenceSession = functools.partial(
            onnxruntime.InferenceSession, sess_options=options
        )
    model = draw.ExportedModel(folder)
    return functools.partial(model.draw, conditions, noise=noise)


def report(args, folder, facts, seconds):
    """Print the table."""
    versions = (f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)
    print(f"{args.model}, {args.images} images of {args.steps} steps.", end=" ")
    print(f"{', '.join(versions)}.\n")
    print("| | images/s | size | largest difference | root mean square |")
    print("|---|---|---|---|---|")
    expected = np.load(folder / f"{next(iter(facts))}.npy").astype("int16")
    for name in facts:
        found = np.load(folder / f"{name}.npy").astype("int16")
        difference = np.abs(found - expected)
        error = np.sqrt(np.mean(difference.astype("float64") ** 2))
        size = "-"
        if (folder / name).is_dir():
            files = [f for f in (folder / name).rglob("*") if f.is_file()]
            size = f"{sum(f.stat().st_size for f in files) / 2**20:.1f} MiB"
        print(
            f"| {name} | {args.images / np.median(seconds[name]):.2f} "
            f"| {size} | {difference.max()} grey levels | {error:.2f} |"
        )


if __name__ == "__main__":
    main()
