"""FID, KID, precision and recall of real photographs, beside other tools'.

    KERAS_BACKEND=tensorflow python benchmarks/metric_agreement.py \
        --images imagenette_64.zip --weights inception2015_fid_fp32.npz

The metrics of two sets of real photographs, from the same features: with
torch-fidelity's functions, and the Fréchet distance with SciPy's root of a
matrix. Then the same with another batch size. Needs
`pip install --no-deps torch-fidelity`.
"""

import argparse
import json
import time

import keras
import numpy as np
import scipy.linalg
import torch
from fidelity_network import fidelity_module

import keras_simple_diffusion as ksd


def read(path, split, count):
    source = ksd.data.open_data(path, 64, split)
    numbers = np.linspace(0, len(source) - 1, count).round().astype(int)
    return np.stack([source[int(i)]["images"] for i in numbers])


def ours(a, b):
    statistics = []
    for features in (a, b):
        statistics.append(ksd.metrics.FeatureStatistics(features.shape[1]))
        statistics[-1].add(features)
    precision, recall = ksd.metrics.precision_recall(a, b)
    kid, _ = ksd.metrics.kernel_distance(a, b, 2, len(a))
    return {
        "fid": ksd.metrics.frechet_distance(*statistics),
        "kid": kid,
        "precision": precision,
        "recall": recall,
    }


def scipys(a, b):
    a, b = a.astype("float64"), b.astype("float64")
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    shift = a.mean(0) - b.mean(0)
    spread = sum(map(np.trace, covariances)) - 2 * np.trace(root.real)
    return {"fid": float(shift @ shift + spread)}


def fidelitys(a, b):
    metric_fid, metric_kid, metric_prc = (
        fidelity_module(f"metric_{name}") for name in ("fid", "kid", "prc")
    )
    a, b = torch.tensor(a), torch.tensor(b)
    statistics = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
    options = {"kid_subsets": 1, "kid_subset_size": len(a), "verbose": False}
    found = {
        **metric_fid.fid_statistics_to_metric(*statistics, False),
        **metric_kid.kid_features_to_metric(a, b, **options),
        **metric_prc.prc_features_to_metric(a, b, verbose=False),
    }
    return {
        "fid": found["frechet_inception_distance"],
        "kid": found["kernel_inception_distance_mean"],
        "precision": found["precision"],
        "recall": found["recall"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    images = [
        read(args.images, split, args.count) for split in ("train", "test")
    ]
    started = time.perf_counter()
    sets = {}
    for batch_size in (32, 20):
        network = ksd.metrics.InceptionFeatures(
            args.weights, batch_size=batch_size
        )
        sets[batch_size] = [network(p) for p in images]
    seconds = time.perf_counter() - started
    base = ours(*sets[32])
    report = {"ours": base}
    for name, other in {
        "torch-fidelity": fidelitys(*sets[32]),
        "SciPy": scipys(*sets[32]),
        "batch size 20": ours(*sets[20]),
    }.items():
        report[name] = {
            key: {"value": value, "relative": abs(value / base[key] - 1)}
            for key, value in other.items()
        }
    report["images_per_second"] = round(4 * args.count / seconds, 1)
    report["backend"] = keras.config.backend()
    report["count"] = args.count
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
