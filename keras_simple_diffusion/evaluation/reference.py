"""Features of real images, computed once for all evaluations."""

import io
import json
import os
import pathlib

import numpy as np

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.evaluation.shards import FeatureShards
from keras_simple_diffusion.evaluation.shards import fill_shards
from keras_simple_diffusion.evaluation.shards import read_checked
from keras_simple_diffusion.evaluation.shards import write_checked
from keras_simple_diffusion.metrics.frechet import FeatureStatistics
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import whole_file


def reference_features(source, features, cache=None, title="reference"):
    """Compute features of real images, or find them in a cache.

    Their place in the cache is a digest of the data, the shape of the images,
    and the network with its resizing.

    Args:
        source: a `keras_simple_diffusion.data.ImageSource`.
        features: function with a `name`, such as
            `keras_simple_diffusion.metrics.InceptionFeatures`.
        cache: path of a folder. Defaults to `KSD_CACHE`, or
            `~/.cache/keras_simple_diffusion`.
        title: string. Label of the progress bar. Defaults to `"reference"`.

    Returns:
        A tuple of `FeatureShards` and `FeatureStatistics`.
    """
    if cache is None:
        default = "~/.cache/keras_simple_diffusion"
        cache = pathlib.Path(os.environ.get("KSD_CACHE", default)).expanduser()
    key = {
        "data": source.content_digest(),
        "count": len(source),
        "image_shape": list(source.image_shape),
        "crop": getattr(source, "crop", "none"),
        "features": features.name,
    }
    text = json.dumps(key, indent=2)
    digest = sha256(text)
    folder = pathlib.Path(cache) / f"reference-{digest[:16]}"
    shards = FeatureShards(folder, len(source), key=digest)

    def read(numbers):
        return np.stack([source[i]["images"] for i in numbers])

    fill_shards(read, [(shards, features)], title)
    path = folder / "statistics.npz"
    if is_main_process() and read_checked(path, digest) is None:
        with whole_file(folder / "key.json") as draft:
            draft.write_text(text + "\n")
        content = io.BytesIO()
        shards.statistics().save(content)
        write_checked(path, content.getvalue(), digest)
    wait_for_all()
    content = io.BytesIO(read_checked(path, digest))
    return shards, FeatureStatistics.load(content)
