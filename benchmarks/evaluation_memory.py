"""Measure the memory of an evaluation with few and with many images.

    KERAS_BACKEND=tensorflow python benchmarks/evaluation_memory.py \
        --images imagenette_64.zip --weights inception2015_fid_fp32.npz

Images of the training split, repeated as needed, are compared with those of the
other split, in a separate process for each number of images and each choice of
metrics. The peak of its memory is printed.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings

CHOICES = {
    "fid with its interval": ["fid"],
    "all of Inception's": [
        "fid",
        "fid_infinity",
        "kid",
        "precision_recall",
        "density_coverage",
        "nearest",
    ],
}


def work(args):
    import numpy as np

    import keras_simple_diffusion as ksd
    from keras_simple_diffusion import evaluation

    warnings.filterwarnings("ignore", "A Fréchet distance of")
    source = ksd.data.open_data(args.images, 64, "train")
    network = ksd.metrics.InceptionFeatures(args.weights)
    real = ksd.data.open_data(args.images, 64, "test")
    reference = evaluation.reference_features(real, network, args.cache)
    folder = pathlib.Path(args.cache) / f"train-{args.count}"
    shards = evaluation.FeatureShards(folder, args.count)

    def read(numbers):
        return np.stack([source[i % len(source)]["images"] for i in numbers])

    started = time.perf_counter()
    evaluation.fill_shards(read, [(shards, network)])
    drawn = time.perf_counter() - started
    metrics = CHOICES[args.choice]
    evaluation.compare_features(shards, *reference, metrics, 3)
    if "nearest" in metrics:
        ksd.metrics.find_training_neighbors(
            shards.spread(10_000)[1], [reference[0]]
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "images": args.count,
                "metrics": args.choice,
                "peak_mib": round(peak),
                "seconds_of_features": round(drawn),
                "seconds_of_metrics": round(
                    time.perf_counter() - started - drawn
                ),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--counts", default="1000,10000")
    parser.add_argument("--cache", help="kept features; default: none")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--choice", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.count:
        work(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or folder
        for count in args.counts.split(","):
            for choice in CHOICES:
                command = [sys.executable, *sys.argv, "--cache", cache]
                command += ["--count", count, "--choice", choice]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
