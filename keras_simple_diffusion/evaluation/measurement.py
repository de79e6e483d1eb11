"""Features and scores of the images of one evaluation."""

import pathlib

import numpy as np

from keras_simple_diffusion.evaluation import scores
from keras_simple_diffusion.evaluation.image_sets import choose
from keras_simple_diffusion.evaluation.shards import FeatureShards
from keras_simple_diffusion.evaluation.shards import fill_shards
from keras_simple_diffusion.evaluation.shards import image_digests
from keras_simple_diffusion.evaluation.shards import reference_features
from keras_simple_diffusion.metrics.likelihood import bits_per_dimension
from keras_simple_diffusion.utils.files import sha256

# Networks see at least this many images per file of features, so that small
# batches of the model do not become small batches of theirs.
_FEATURE_BATCH = 32


class Measurement:
    """Features in the folder of an evaluation, and their scores.

    The features of the real images are computed or found at once.

    Args:
        folder: path.
        settings: dict, the content of `settings.json`.
        networks: dict from names to functions of images.
        sources: dict from splits to `ImageSource`s of real images.
        data: the argument of `evaluate`.
    """

    def __init__(self, folder, settings, networks, sources, data):
        self.folder = pathlib.Path(folder)
        self.settings = settings
        self.networks = networks
        self.sources = sources
        # Only data that can be found again by name are worth a shared cache.
        is_named = isinstance(data, str | pathlib.Path)
        cache = None if is_named else self.folder
        self.references = {
            split: {
                name: reference_features(
                    source,
                    networks[name],
                    cache,
                    f"real images, {split}, for {name}",
                )
                for name in scores.compared_networks(settings["metrics"])
            }
            for split, source in sources.items()
        }

    def images(self, images):
        """Compute the features of one set of images, and all scores.

        Args:
            images: `DrawnImages` or `StoredImages`.

        Returns:
            A dict, a result of the report.
        """
        settings, metrics = self.settings, self.settings["metrics"]
        drawn = {
            name: self._shards(images.name, name, len(images), images.facts)
            for name in [*self.networks, "sha256"]
        }
        functions = {**self.networks, "sha256": image_digests}
        fill_shards(
            images.read,
            [(drawn[name], functions[name]) for name in drawn],
            images.title,
        )
        found = {split: {} for split in self.references}
        for split, reference in self.references.items():
            for name, (shards, statistics) in reference.items():
                found[split] |= scores.compare_features(
                    drawn[name],
                    shards,
                    statistics,
                    [m for m in metrics if scores.METRICS[m] == name],
                    settings["num_resamples"],
                )
        text_features, requests = None, images.requests
        if "clip_score" in metrics:
            text_features = self.networks["clip"].embed_text(requests.captions)
        found["generated"] = scores.score_alone(
            drawn, self.networks, requests.labels, text_features, metrics
        )
        return {
            **images.facts,
            "num_images": len(images),
            "images_sha256": sha256(*drawn["sha256"]),
            "scores": found,
        }

    def likelihood(self, task, split):
        """Compute bits per dimension of real images.

        Args:
            task: a `DiffusionModel`.
            split: string.

        Returns:
            A dict of the mean, its standard error and the number of images.
        """
        settings, source = self.settings, self.sources[split]
        count = min(len(source), settings["num_images"] or len(source))
        chosen = choose(len(source), count, settings["seed"])
        facts = [settings["model_content"], settings["seed"], len(source)]
        shards = self._shards(f"bits-{split}", "", count, facts)

        def bits(numbers):
            examples = [source[int(chosen[i])] for i in numbers]
            labels = None
            if task.backbone.num_classes is not None:
                labels = [int(example["labels"]) for example in examples]
            bound = bits_per_dimension(
                task,
                np.stack([example["images"] for example in examples]),
                labels,
                seed=settings["seed"],
                batch_size=settings["batch_size"],
                indices=numbers,
            )
            return bound.bits[:, None]

        fill_shards(list, [(shards, bits)], f"bits per dimension, {split}")
        values = np.concatenate(list(shards))
        return {
            "mean": float(values.mean()),
            "standard_error": float(values.std(ddof=1) / np.sqrt(count)),
            "count": count,
        }

    def _shards(self, folder, name, count, facts):
        """Make the shards of one network, keyed by all that they depend on."""
        batch_size, digests = (
            self.settings[key] for key in ("batch_size", "data_content")
        )
        size = -(-_FEATURE_BATCH // batch_size) * batch_size
        network = self.settings["networks"].get(name, name)
        key = sha256(repr((facts, digests, network, count)))
        return FeatureShards(self.folder / folder / name, count, size, key)
