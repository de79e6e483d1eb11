import hashlib
import json
import os
import pathlib

import numpy as np

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.evaluation.shards import FeatureShards
from keras_simple_diffusion.evaluation.shards import fill_shards
from keras_simple_diffusion.metrics.frechet import FeatureStatistics
from keras_simple_diffusion.utils.files import whole_file


def reference_features(source, features, cache=None, title="reference"):
    """Features of real images, computed once.

    They are found again by a digest of the data, the images' shape and the
    network with its resizing.

    Args:
        source: a `keras_simple_diffusion.data.open_data` source.
        features: function with a `name`, such as
            `keras_simple_diffusion.metrics.InceptionFeatures`.
        cache: path of the folder of all such features. Defaults to
            `KSD_CACHE`, or `~/.cache/keras_simple_diffusion`.
        title: string, shown while it works. Defaults to `"reference"`.

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
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = pathlib.Path(cache) / f"reference-{digest}"
    shards = FeatureShards(folder, len(source))

    def read(numbers):
        return np.stack([source[i]["images"] for i in numbers])

    fill_shards(read, [(shards, features)], title)
    stored = folder / "statistics.npz"
    if is_main_process() and not stored.exists():
        with whole_file(folder / "key.json") as draft:
            draft.write_text(text + "\n")
        with whole_file(stored) as draft:
            shards.statistics().save(draft)
    wait_for_all()
    return shards, FeatureStatistics.load(stored)
