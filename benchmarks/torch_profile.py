"""Show where a training step on PyTorch spends its time, in two precisions.

    taskset -c 0 python benchmarks/torch_profile.py

It prints a table in Markdown: milliseconds of a training step within each of
PyTorch's operations, without those that it calls, in float32 and in bfloat16,
those that take longest. Steps of both take turns, and the fastest counts for
each operation, because PyTorch measures by the clock.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

import keras_simple_diffusion as ksd

PRECISIONS = ("float32", "mixed_bfloat16")
BATCH_SIZE = 8


def make_step(preset, dtype):
    """Return a function that takes a training step."""
    backbone = ksd.models.DiffusionBackbone.from_preset(
        preset, load_weights=False, dtype=dtype
    )
    model = ksd.models.DiffusionModel(backbone)
    model.compile(ksd.optimizers.Adam(1e-4), ema_decay=0.999)
    images = np.random.default_rng(0).integers(
        0, 256, (BATCH_SIZE, *backbone.image_shape), "uint8"
    )
    return lambda: model.train_on_batch({"images": images})


def profile(step):
    """Milliseconds and calls by operation."""
    with torch.profiler.profile() as trace:
        step()
    return {
        event.key: (event.self_cpu_time_total / 1e3, event.count)
        for event in trace.key_averages()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="uvit_small_64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16)
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    steps = [make_step(args.preset, dtype) for dtype in PRECISIONS]
    for step in steps:
        step()
    rounds = [list(map(profile, steps)) for _ in range(args.rounds)]
    # Fastest of the rounds, by operation, for each precision.
    found = [
        {name: min(each[name] for each in traces) for name in traces[0]}
        for traces in zip(*rounds, strict=True)
    ]
    totals = [sum(time for time, _ in each.values()) for each in found]
    names = sorted(
        {*found[0], *found[1]},
        key=lambda name: -max(each.get(name, (0,))[0] for each in found),
    )
    print(f"| | {' | '.join(PRECISIONS)} | calls |\n|---|---|---|---|")
    rest = list(totals)
    for name in names[: args.rows]:
        both = [each.get(name, (0.0, 0)) for each in found]
        rest = [
            total - time for total, (time, _) in zip(rest, both, strict=True)
        ]
        times = " | ".join(f"{time:,.0f}" for time, _ in both)
        print(f"| `{name}` | {times} | {', '.join(str(n) for _, n in both)} |")
    print(f"| all others | {rest[0]:,.0f} | {rest[1]:,.0f} | |")
    print(f"| together | {totals[0]:,.0f} | {totals[1]:,.0f} | |")
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
