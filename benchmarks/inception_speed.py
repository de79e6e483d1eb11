"""Images a second of Inception: ours on each backend, and torch-fidelity's.

    python benchmarks/inception_speed.py --weights inception2015_fid_fp32.npz

Each contender is a process of its own, with all cores. They take turns on the
same images. `torchscript` is torch-fidelity's network, traced and frozen;
ratios are of seconds over its. Needs
`pip install --no-deps torch-fidelity`.
"""

import argparse
import json
import os
import platform

import numpy as np
import turns

CONTENDERS = ("tensorflow", "jax", "torch", "torch-fidelity", "torchscript")
BATCH = 32


def contender(name, weights):
    """A function of images."""
    if name in ("tensorflow", "jax", "torch"):
        os.environ["KERAS_BACKEND"] = name
        import keras_simple_diffusion as ksd

        return ksd.metrics.InceptionFeatures(weights, batch_size=BATCH)
    os.environ["KERAS_BACKEND"] = "torch"
    import torch
    from fidelity_network import fidelity_network

    network = fidelity_network(weights)
    if name == "torchscript":
        example = torch.zeros(BATCH, 3, 64, 64, dtype=torch.uint8)
        network = torch.jit.freeze(torch.jit.trace(network, example))

    def features(images):
        channels_first = images.transpose(0, 3, 1, 2).copy()
        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(channels_first), BATCH)
            return torch.cat([network(part)[0] for part in parts]).numpy()

    return features


def work(name, args):
    function = contender(name, args.weights)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.images, 64, 64, 3), "uint8")
    turns.serve(lambda: function(images))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args)
        return
    names = args.contenders.split(",")
    _, seconds = turns.take_turns(names, args.rounds)
    report = {
        name: {
            "images_per_second": round(
                float(args.images / np.median(values)), 1
            ),
            **turns.ratio(values, seconds["torchscript"]),
        }
        for name, values in seconds.items()
    }
    facts = {
        "images": args.images,
        "rounds": args.rounds,
        "cpus": os.cpu_count(),
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps({**report, **facts}))


if __name__ == "__main__":
    main()
