"""Features and scores of the images of one evaluation."""

import pathlib

import numpy as np

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.evaluation import image_sets
from keras_simple_diffusion.evaluation import scores
from keras_simple_diffusion.evaluation.conditioning import ClassRecognition
from keras_simple_diffusion.evaluation.conditioning import PromptRecognition
from keras_simple_diffusion.evaluation.neighbors import NeighborSearch
from keras_simple_diffusion.evaluation.shards import FeatureShards
from keras_simple_diffusion.evaluation.shards import fill_shards
from keras_simple_diffusion.evaluation.shards import image_digests
from keras_simple_diffusion.evaluation.shards import reference_features
from keras_simple_diffusion.evaluation.shards import reference_shards
from keras_simple_diffusion.metrics.likelihood import bits_per_dimension
from keras_simple_diffusion.models.text_to_image import TextToImage
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import whole_file

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
        subject: a task, or an `ImageSource` of stored images.
    """

    def __init__(self, folder, settings, networks, sources, data, subject):
        self.folder = pathlib.Path(folder)
        self.settings = settings
        self.networks = networks
        self.sources = sources
        self._names = getattr(subject, "class_names", None)
        # Only data that can be found again by name are worth a shared cache.
        is_named = isinstance(data, str | pathlib.Path)
        self._cache = None if is_named else self.folder
        self.references = {
            split: {
                name: reference_features(
                    source,
                    networks[name],
                    self._cache,
                    f"real images, {split}, for {name}",
                )
                for name in scores.compared_networks(settings["metrics"])
            }
            for split, source in sources.items()
        }
        metrics = settings["metrics"]
        training, held_out = image_sets.split_roles(sources)
        if "nearest" in metrics:
            self._spaces = {
                "features": scores.network_of("nearest", networks),
                "pixels": "pixels",
            }
            self._neighbors = NeighborSearch(
                {k: networks[name] for k, name in self._spaces.items()},
                sources[training],
                sources.get(held_out),
                self._cache,
            )
        if "conditioning" in metrics:
            self._recognition = self._recognize(subject, training, held_out)

    def _recognize(self, task, training, held_out):
        """Prepare the comparison with labels or prompts."""
        network = self.networks[
            scores.network_of("conditioning", self.networks)
        ]

        def open_split(split):
            source = self.sources[split]
            title = f"real images, {split}, for conditioning"
            shards = reference_shards(source, network, self._cache, title)
            return source, shards

        sides = open_split(training), held_out and open_split(held_out)
        if isinstance(task, TextToImage):
            return PromptRecognition(*sides)
        return ClassRecognition(task.class_names, *sides)

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
        result = {
            **images.facts,
            "num_images": len(images),
            "images_sha256": sha256(*drawn["sha256"]),
            "scores": found,
        }
        if "nearest" in metrics:
            spaces = self._spaces.items()
            result["nearest"] = self._neighbors.find(
                {space: drawn[name] for space, name in spaces}
            )
        if "conditioning" in metrics:
            network = scores.network_of("conditioning", self.networks)
            result["conditioning"] = {
                "scores": self._recognition.scores(drawn[network], requests)
            }
        return result

    def draw_nearest(self, images, result, path):
        """Write the sheet of images and of their nearest training images.

        Args:
            images: `DrawnImages` or `StoredImages`.
            result: dict that `images` returned. The name of the file is added.
            path: path of the image.
        """
        nearest = result["nearest"]
        sheet = self._neighbors.draw(
            nearest, images.read, images.requests.names(self._names)
        )
        nearest["sheet"] = path.name
        if is_main_process():
            with whole_file(path) as draft:
                sheet.save(draft, "png")

    def likelihood(self, task, split):
        """Compute bits per dimension of real images.

        Args:
            task: a `DiffusionModel`.
            split: string.

        Returns:
            A dict of the mean, its standard error and the number of images.
        """
        settings, source = self.settings, self.sources[split]
        count = min(len(source), settings["num_real_images"] or len(source))
        chosen = image_sets.choose(len(source), count, settings["seed"])
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
