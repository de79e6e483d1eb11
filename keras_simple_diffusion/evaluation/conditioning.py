"""Agreement of generated images with their labels or prompts.

Real images are the judge, without a classifier or a model of text.
"""

import collections
import re

import numpy as np

from keras_simple_diffusion.metrics.manifolds import nearest_distances
from keras_simple_diffusion.metrics.manifolds import squared_distances
from keras_simple_diffusion.metrics.memorization import nearest_of_parts
from keras_simple_diffusion.models.text_to_image import TextToImage

_CANDIDATES = 100  # Real images of which one belongs to the prompt.
_MAX_IMAGES = 10_000


class ClassRecognition:
    """Recognition of the classes of images by the nearest class mean.

    An image is recognized as the class whose mean of normalized features of
    training images is nearest. The score is the share of images that are
    recognized as the class asked for, averaged over the classes, so that
    chance is 1 by the number of classes.

    Args:
        class_names: list of strings, those of the model, or `None` if they are
            those of the data.
        training: tuple of the `ImageSource` and the `FeatureShards` of the
            training images.
        held_out: the same of the held-out images, or `None`.

    References:
        - [Mensink et al., 2013](https://doi.org/10.1109/TPAMI.2013.83)
    """

    def __init__(self, class_names, training, held_out):
        labels = _labels_of(training[0], class_names)
        self._classes = np.unique(labels[labels >= 0])
        sums = 0.0
        for features, own in _with_labels(training[1], labels):
            is_member = own[:, None] == self._classes
            sums = sums + is_member.T @ _normalize(features)
        self._means = _normalize(sums)
        self._real = {}
        if held_out is not None:
            own = _labels_of(held_out[0], class_names)
            self._real = {"held_out": self._score(held_out[1], own)}

    def scores(self, shards, requests):
        """Compute the scores.

        Args:
            shards: `FeatureShards` of the generated images.
            requests: `Requests`, with labels.

        Returns:
            A dict from `"generated"`, `"held_out"` and `"chance"` to dicts of
            floats.
        """
        return {
            "generated": self._score(shards, np.array(requests.labels)),
            **self._real,
            "chance": {"class_recognition": 1.0 / len(self._classes)},
        }

    def _score(self, shards, labels):
        right = collections.defaultdict(list)
        for features, own in _with_labels(shards, labels):
            _, found = nearest_distances(_normalize(features), self._means)
            for asked, each in zip(own, self._classes[found], strict=True):
                right[int(asked)].append(asked == each)
        shares = [np.mean(each) for label, each in right.items() if label >= 0]
        return {"class_recognition": float(np.mean(shares))}


class PromptRecognition:
    """Recognition of prompts by the nearest real images.

    `prompt_retrieval` is the share of images whose nearest real image, of 100
    with captions of the prompts' split, is that of the prompt: the expected
    share over all choices of the 99 others.

    `prompt_words` is the share of a prompt's words that the captions of the
    nearest training image contain. It has a value for real images, too.

    Args:
        training: tuple of the `ImageSource` and the `FeatureShards` of the
            training images.
        held_out: the same of the held-out images, whose captions are the
            prompts, or `None` if they are those of the training images.

    References:
        - [Xu et al., 2018](https://arxiv.org/abs/1711.10485), R-precision,
          which looks up texts in place of images
    """

    def __init__(self, training, held_out):
        prompted = held_out or training
        self._prompted = np.concatenate(list(prompted[1]))
        self._images = collections.defaultdict(list)
        for number, (_, captions) in enumerate(prompted[0].annotations()):
            for caption in captions:
                self._images[caption].append(number)
        self._training = training[1]
        self._words = [
            words_of(" ".join(captions))
            for _, captions in training[0].annotations()
        ]
        self._real = {}
        if held_out is not None:
            captions = [each[0] for _, each in held_out[0].annotations()]
            numbers, features = held_out[1].spread(_MAX_IMAGES)
            score = self._score_words(features, [captions[i] for i in numbers])
            self._real = {"held_out": {"prompt_words": score}}

    def scores(self, shards, requests):
        """Compute the scores, see `ClassRecognition.scores`."""
        numbers, features = shards.spread(_MAX_IMAGES)
        prompts = [requests.prompts[i] for i in numbers]
        counts = collections.Counter(w for each in self._words for w in each)
        rates = [
            np.mean([counts[word] / len(self._words) for word in words])
            for words in map(words_of, prompts)
            if words
        ]
        retrieval, chance = self._retrieve(features, prompts)
        return {
            "generated": {
                "prompt_retrieval": retrieval,
                "prompt_words": self._score_words(features, prompts),
            },
            **self._real,
            "chance": {
                "prompt_retrieval": chance,
                "prompt_words": float(np.mean(rates)) if rates else 0.0,
            },
        }

    def _retrieve(self, features, prompts):
        """Compute `prompt_retrieval` and its chance."""
        rates, chances = [], []
        for start, squares in squared_distances(features, self._prompted):
            for row, prompt in zip(squares, prompts[start:], strict=False):
                own = self._images[prompt]
                limit = row[own].min()
                nearer = (row <= limit).sum() - (row[own] <= limit).sum()
                others = len(row) - len(own)
                drawn = min(_CANDIDATES - 1, others)
                rates.append(rate_without(nearer, others, drawn))
                chances.append(1.0 / (drawn + 1))
        return float(np.mean(rates)), float(np.mean(chances))

    def _score_words(self, features, prompts):
        _, numbers = nearest_of_parts(features, self._training)
        shares = [
            len(words & self._words[number]) / len(words)
            for words, number in zip(
                map(words_of, prompts), numbers, strict=True
            )
            if words
        ]
        return float(np.mean(shares)) if shares else 0.0


def rate_without(marked, total, drawn):
    """Compute the probability that none of the marked items is drawn.

    Args:
        marked: int. Number of marked items.
        total: int. Number of all items.
        drawn: int. Number of items drawn without replacement.

    Returns:
        A float in [0, 1], of the hypergeometric distribution.
    """
    left = total - np.arange(drawn)
    return float(np.prod(np.maximum(left - marked, 0) / left))


def words_of(text):
    """Return the set of the words of a text, in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def problem_of(task, sources):
    """Say why a model and data do not suit the metric `conditioning`.

    Args:
        task: a `DiffusionModel` or a `TextToImage`.
        sources: dict from splits to `ImageSource`s.

    Returns:
        A string, or `None` if they do.
    """
    if isinstance(task, TextToImage):
        if all(source.has_captions for source in sources.values()):
            return None
        return "`conditioning` needs captions of all images of the data."
    if task.backbone.num_classes is None:
        return "`conditioning` needs a model with classes or text."
    names = task.class_names
    for split, source in sources.items():
        known = source.class_names
        if known is None or not set(names or known) <= set(known):
            return (
                "`conditioning` needs images of the model's classes. The model "
                f"has {names or task.backbone.num_classes}; the {split} images "
                f"have {known}."
            )
    return None


def _labels_of(source, class_names):
    """Return the labels of images as the model numbers them, -1 for others."""
    labels = np.array([label for label, _ in source.annotations()])
    if class_names is None:
        return labels
    numbers = {name: number for number, name in enumerate(class_names)}
    order = [numbers.get(name, -1) for name in source.class_names]
    return np.array(order)[labels]


def _with_labels(shards, labels):
    """Yield the features of each file with their labels."""
    start = 0
    for features in shards:
        yield features, labels[start : start + len(features)]
        start += len(features)


def _normalize(features):
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.maximum(norms, 1e-12)
