"""Scores of drawn images, by the library's `evaluate`."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
from PIL import Image

INCEPTION = "inception2015_fid_fp32.npz"


def write_images(images, path):
    """Write `uint8` images `(N, H, W, 3)` to a zip."""
    with zipfile.ZipFile(path, "w") as file:
        for index, image in enumerate(images):
            with file.open(f"{index:05}.png", "w") as entry:
                Image.fromarray(image).save(entry, "PNG")


def read_images(path, count):
    """The first images of a zip, an array `(count, H, W, 3)`."""
    images = []
    with zipfile.ZipFile(path) as file:
        for name in sorted(file.namelist())[:count]:
            with file.open(name) as entry:
                images.append(np.asarray(Image.open(entry)))
    return np.stack(images)


def measure(path, data, weights, backend=None):
    """FID and KID of a zip of images against both splits of a data set.

    The report of `evaluate` lies beside the zip.

    Args:
        path: path of the zip.
        data: path of the real images.
        weights: path of Inception's weights.
        backend: string, or `None` for this process's.

    Returns:
        A dict, such as `{"fid_train": 50.0, ...}`.
    """
    found = evaluate(path, data, weights, "fid,kid", backend)
    (result,) = found["results"]
    return {
        f"{metric}_{split}": result["scores"][split][metric]
        for metric in ("fid", "fid_standard_error", "kid")
        for split in found["references"]
    }


def evaluate(path, data, weights, metrics, backend=None, options=()):
    """Evaluate a zip of images, and return the report as a dict.

    Args:
        path: see `measure`.
        data: see `measure`.
        weights: see `measure`.
        metrics: string, as the command line takes them.
        backend: see `measure`.
        options: further words of the command line.
    """
    report = path.with_suffix(".json")
    # There may be those of other images of this name.
    report.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(".features"), ignore_errors=True)
    command = [sys.executable, "-m", "keras_simple_diffusion", "evaluate"]
    command += ["--model", path, "--data", data, "--metrics", metrics]
    command += ["--feature-weights", weights, "--seed", 0]
    command += ["--output", report, *options]
    environment = dict(os.environ)
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    subprocess.run(list(map(str, command)), check=True, env=environment)
    return json.loads(report.read_text())
