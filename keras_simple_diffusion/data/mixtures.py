"""Several sources of images as one, with weights."""

import bisect
import itertools

import numpy as np

from keras_simple_diffusion.data.encoded_source import EncodedSource
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number
from keras_simple_diffusion.utils.files import sha256

# Images in which each source has its share to the image.
_BLOCK = 1000


class MixedSource(EncodedSource):
    """Several sources one after another, of which training draws by weights.

    Classes of equal names are one class. They are numbered in the order of the
    sources, and of the classes in each.

    Args:
        sources: list of `EncodedSource`s of one image shape.
        weights: list of positive numbers, the shares of the sources in
            training, in any unit; they are rounded to a thousandth. `None`
            for shares as large as the sources.
        class_names: list of strings, the classes of all sources. Defaults to
            those of `sources`.

    """

    def __init__(self, sources, weights=None, class_names=None):
        _check_sources(sources)
        self.sources = list(sources)
        lengths = [len(source) for source in sources]
        if weights is not None:
            self.mixture = lengths, _shares_of(weights, len(sources))
        self._ends = list(itertools.accumulate(lengths))
        names = class_names or _all_classes(sources)
        numbers = {name: number for number, name in enumerate(names)}
        self._numbers = [
            [numbers[name] for name in source.class_names or ()]
            for source in sources
        ]
        first = self.sources[0]
        super().__init__(
            " and ".join(source.place for source in sources),
            first.decoder,
            first.crop,
            names or None,
            self._digest([source.fingerprint for source in sources]),
        )
        self.left_out = {}
        for source in sources:
            for reason, left_out in source.left_out.items():
                self.left_out.setdefault(reason, []).extend(left_out)

    def _digest(self, digests):
        return sha256(repr((digests, self.mixture, self._numbers)))[:16]

    def __len__(self):
        return self._ends[-1]

    def name(self, index):
        part, inside = self._place(index)
        source = self.sources[part]
        return f"{source.place}: {source.name(inside)}"

    def content_digest(self):
        return self._digest([each.content_digest() for each in self.sources])

    def captions(self):
        if not self.sources[0].has_captions:
            return None
        return [text for source in self.sources for text in source.captions()]

    @property
    def has_captions(self):
        return self.sources[0].has_captions

    def annotations(self):
        return [
            (None if label is None else numbers[label], captions)
            for source, numbers in zip(self.sources, self._numbers, strict=True)
            for label, captions in source.annotations()
        ]

    def record(self, index):
        part, inside = self._place(index)
        content, label, captions = self.sources[part].record(inside)
        if label is not None:
            label = self._numbers[part][label]
        return content, label, captions

    def _place(self, index):
        """Return the source of an image, and its number there."""
        part = bisect.bisect_right(self._ends, index)
        return part, index - self._ends[part] + len(self.sources[part])


def mix(sources, weights=None):
    """Mix sources of images, for training with given shares of each.

    Among each thousand images in training, each source has its share to the
    image. The images of a source are drawn without replacement until all were
    drawn, whatever happens to the other sources.

    Args:
        sources: list of sources that `keras_simple_diffusion.data.open_data`
            has opened at one size. All have classes, or none; all have
            captions, or none.
        weights: list of positive numbers, the shares in any unit. `None`
            draws every image of all sources once an epoch. Defaults to
            `None`.

    Returns:
        An `ImageSource` of all images, with the classes of all sources:
        classes of equal names are one.

    Raises:
        InputError: if the sources do not fit each other.

    Example:
    >>> photos = keras_simple_diffusion.data.open_data("photos.zip", 64)
    >>> vehicles = keras_simple_diffusion.data.open_data("vehicles", 64)
    >>> source = keras_simple_diffusion.data.mix([photos, vehicles], [3, 1])
    """
    return MixedSource(sources, weights)


def _check_sources(sources):
    if not sources:
        raise InputError("A mixture needs sources. Received: none")
    first = sources[0]
    for source in sources:
        if not isinstance(source, EncodedSource):
            raise InputError(
                "Sources of files can be mixed, as `open_data` opens them. "
                f"Received: a {type(source).__name__}. `pack` writes a file."
            )
        for ours, theirs in zip(_facts(first), _facts(source), strict=True):
            if ours != theirs:
                raise InputError(
                    f"'{first.place}' and '{source.place}' cannot be mixed: "
                    f"the first has {ours}, the second {theirs}."
                )


def _facts(source):
    """Say what the sources of a mixture have in common."""
    height, width, channels = source.image_shape
    return (
        f"{height} x {width} pixels of {channels} channels",
        "classes" if source.class_names else "no classes",
        "captions" if source.has_captions else "no captions",
        f"{source.crop} crops",
        "turned portraits" if source.decoder.turn_portrait else "no turning",
    )


def _all_classes(sources):
    names = [name for each in sources for name in each.class_names or ()]
    return list(dict.fromkeys(names))


def _shares_of(weights, count):
    """Round weights to whole numbers whose sum is `_BLOCK`."""
    if len(weights) != count:
        raise InputError(
            f"`weights` must be {count} numbers, one for each source. "
            f"Received: weights={weights}"
        )
    weights = [check_number("weights", each, above=0) for each in weights]
    exact = np.array(weights) * (_BLOCK / sum(weights))
    shares = np.floor(exact).astype(int)
    missing = _BLOCK - shares.sum()
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    if not shares.all():
        raise InputError(
            f"Each source needs a share of at least 1 in {_BLOCK}. Received: "
            f"weights={weights}"
        )
    return shares.tolist()
