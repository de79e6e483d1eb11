"""Nearest training images of generated ones: scores, and a sheet of them."""

import numpy as np

from keras_simple_diffusion.evaluation.shards import reference_shards
from keras_simple_diffusion.metrics.memorization import find_training_neighbors
from keras_simple_diffusion.utils.sheets import show

_MAX_SAMPLES = 10_000  # Of which the nearest training images are looked up.
_COLUMNS = 8  # Of the sheet.


class Mirrored:
    """Features of mirrored images.

    Args:
        features: function of images with a `name`.

    Attributes:
        name: string that changes whenever the features do.
    """

    def __init__(self, features):
        self.name = f"{features.name}-mirrored"
        self._features = features

    def __call__(self, images):
        return self._features(images[:, :, ::-1])


class NeighborSearch:
    """Search for the nearest training images, as they are and mirrored.

    Args:
        networks: dict from the names of spaces, `"features"` and `"pixels"`,
            to functions of images.
        training: `ImageSource` of the training images.
        held_out: `ImageSource` of the held-out images, or `None`.
        cache: see `reference_shards`.
    """

    def __init__(self, networks, training, held_out, cache):
        self._training = training
        self._views, self._held_out = {}, {}
        for space, network in networks.items():
            self._views[space] = [
                reference_shards(training, each, cache, f"{space}, {kind}")
                for kind, each in (
                    ("training images", network),
                    ("training images, mirrored", Mirrored(network)),
                )
            ]
            self._held_out[space] = held_out and reference_shards(
                held_out, network, cache, f"{space}, held-out images"
            )

    def find(self, drawn):
        """Find the nearest training images, and compute the scores.

        Args:
            drawn: dict from the names of spaces to `FeatureShards`.

        Returns:
            A dict for the report: `"scores"`, a dict from `"generated"` and
            `"held_out"` to dicts of floats; and lists of dicts of the images
            that the sheet shows, evenly spaced `"samples"` and the `"closest"`.
        """
        found, scores = {}, {"generated": {}}
        for space, views in self._views.items():
            suffix = "" if space == "features" else f"_{space}"
            looked_up, features = drawn[space].spread(_MAX_SAMPLES)
            found[space], real = find_training_neighbors(
                features, views, self._held_out[space]
            )
            scores["generated"] |= _score(found[space], suffix)
            if real is not None:
                scores.setdefault("held_out", {}).update(_score(real, suffix))
        ratios = found["features"].ratios
        ranks = found["features"].distances if ratios is None else ratios
        columns = min(_COLUMNS, len(ranks))
        chosen = {
            "samples": np.arange(columns) * len(ranks) // columns,
            "closest": np.argsort(ranks, kind="stable")[:columns],
        }
        return {
            "scores": scores,
            **{
                kind: [
                    {"number": int(looked_up[i]), **_describe(found, i)}
                    for i in positions
                ]
                for kind, positions in chosen.items()
            },
        }

    def draw(self, result, read, names):
        """Draw images above their nearest training images.

        Args:
            result: dict, see `find`.
            read: function of a list of numbers that returns the generated
                images.
            names: list of strings, what was asked for in each image, or
                `None`.

        Returns:
            A `PIL.Image.Image`.
        """
        rows, captions, titles = [], [], []
        for kind, title in (
            ("samples", "samples"),
            ("closest", "closest samples"),
        ):
            described = result[kind]
            numbers = [each["number"] for each in described]
            rows.append(read(numbers))
            captions += [names[n] if names else f"{n}" for n in numbers]
            titles.append(title)
            for space in self._views:
                nearest = [each[space] for each in described]
                rows.append(np.stack([self._read(each) for each in nearest]))
                captions += [_caption(each) for each in nearest]
                titles.append(f"nearest in {space}")
        return show(
            np.concatenate(rows), len(rows[0]), captions, row_names=titles
        )

    def _read(self, nearest):
        image = self._training[nearest["training_image"]]["images"]
        return image[:, ::-1] if nearest["mirrored"] else image


def _score(found, suffix):
    scores = {
        f"nearest_distance_median{suffix}": float(np.median(found.distances)),
        f"nearest_distance_smallest{suffix}": float(found.distances.min()),
    }
    if found.ratios is not None:
        scores[f"memorized{suffix}"] = found.memorized
    return scores


def _describe(found, number):
    """Describe the nearest training images of an image, for the report."""
    described = {}
    for space, each in found.items():
        described[space] = {
            "training_image": int(each.numbers[number]),
            "mirrored": bool(each.views[number]),
            "distance": float(each.distances[number]),
        }
        if each.ratios is not None and np.isfinite(each.ratios[number]):
            described[space]["ratio"] = float(each.ratios[number])
    return described


def _caption(nearest):
    text = f"{nearest['distance']:.3g}"
    return f"{text} mirrored" if nearest["mirrored"] else text
