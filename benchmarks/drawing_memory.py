"""Measure the memory of a process that draws in many sizes, call by call.

    python benchmarks/drawing_memory.py --against COMMIT

A tiny network draws 1 to 100 images in 1 to 8 steps, both random, until there
are 10,000: some 200 calls, most of which have a shape of their own, which JAX
and TensorFlow compile. It prints a table in Markdown: the resident memory in
MiB after the first call and after each further fifty, and what a call added,
the slope of a line through all calls without the first 30. Those of the commit
draw fewer images.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import paired

BACKENDS = ("jax", "tensorflow", "torch")
MOST_IMAGES, MOST_STEPS = 100, 8
SETTLED = 30  # Calls; by then all that is kept has been made.


def resident():
    """Resident memory of this process in MiB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def draw(count):
    """Draw images, and return the resident memory after each call."""
    import keras_simple_diffusion as ksd

    backbone = ksd.models.UViTBackbone(
        image_shape=(4, 4, 1),
        channels=(16,),
        blocks=(1,),
        num_heads=2,
        embedding_dim=16,
    )
    model = ksd.models.DiffusionModel(backbone)
    rng = np.random.default_rng(0)
    found, drawn = [], 0
    while drawn < count:
        images = int(rng.integers(1, MOST_IMAGES + 1))
        steps = int(rng.integers(1, MOST_STEPS + 1))
        model.generate(images, num_steps=steps, seed=0)
        drawn += images
        found.append(round(resident(), 1))
    return found


def measure(tree, backend, count):
    """Run a process with the library in a folder."""
    command = [sys.executable, __file__, "--worker", "--images", str(count)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "KERAS_BACKEND": backend,
    }
    output = subprocess.check_output(command, env=environment, text=True)
    return json.loads(output.splitlines()[-1])


def slope(found):
    """MiB that a call adds."""
    found = found[SETTLED:]
    if len(found) < 2:
        return float("nan")
    return float(np.polyfit(np.arange(len(found)), found, 1)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--images-before", type=int, default=2_500)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--against", help="An earlier commit.")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(draw(args.images)))
        return
    trees = {"now": (paired.ROOT, args.images)}
    places = [0, *range(49, 2 * args.images // MOST_IMAGES - 1, 50)]
    header = ["", *(str(place + 1) for place in places), "MiB a call"]
    print(f"| {' | '.join(header)} |")
    print("|---" * len(header) + "|", flush=True)
    with contextlib.ExitStack() as stack:
        if args.against:
            tree = stack.enter_context(paired.checkout(args.against))
            trees[f"at {args.against}"] = (tree, args.images_before)
        for backend in args.backends.split(","):
            for name, (tree, count) in trees.items():
                found = measure(tree, backend, count)
                cells = [
                    f"{found[place]:,.0f}" if place < len(found) else ""
                    for place in places
                ]
                cells = [f"{backend}, {name}", *cells, f"{slope(found):.2f}"]
                print(f"| {' | '.join(cells)} |", flush=True)
    print(paired.setting())


if __name__ == "__main__":
    main()
