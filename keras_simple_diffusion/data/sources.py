"""Random access to training examples, and sources made from sources."""

import hashlib
import zlib

import numpy as np

from keras_simple_diffusion.utils.errors import InputError


class ImageSource:
    """Base class of image sources with random access.

    Item `i` is a dict with `"images"`, a `uint8` array of shape `(H, W, C)`,
    and, if the data has them, `"labels"` (int32), `"captions"` (string) and
    `"portrait"` (int32, 1 for an image that was turned on its side). A source
    can be pickled, to be used by other processes.

    Subclasses define `__len__` and `example`.

    Args:
        image_shape: `(height, width, channels)`.
        class_names: list of strings, or `None` without classes.
        fingerprint: string. A digest that changes if the data changes.

    Attributes:
        left_out: dict from reasons to lists of names: files of the data that
            are not used.
        mixture: `None`, or for several sources with weights, one after
            another, a tuple of two lists of ints: their lengths, and the
            number of images of each in a block of the stream.
        buckets: `None`, or for images of several sizes, a list of int arrays:
            the images of each size.
    """

    left_out = {}
    mixture = None
    buckets = None

    def __init__(self, image_shape, class_names, fingerprint):
        self.image_shape = tuple(image_shape)
        self.class_names = class_names
        self.fingerprint = fingerprint

    def example(self, index, rng=None):
        """Return one training example.

        Args:
            index: int.
            rng: `numpy.random.Generator` for random crops and the choice of a
                caption, or `None` to return the same in every call.

        Returns:
            A dict of arrays.
        """
        raise NotImplementedError

    def content_digest(self):
        """Return a digest that also changes if a file is replaced.

        `fingerprint` may depend on names and sizes only, so that the data can
        be moved during a training.
        """
        return self.fingerprint

    def captions(self):
        """Return all captions, as a list of strings, or `None`."""
        return None

    def annotations(self):
        """Return the label and the captions of each image.

        Returns:
            A list of tuples of an int and a list of strings, one per image;
            `None` in place of what the data do not have.
        """
        found = []
        for index in range(len(self)):
            example = self.example(index)
            label, caption = example.get("labels"), example.get("captions")
            found.append(
                (
                    None if label is None else int(label),
                    None if caption is None else [str(caption)],
                )
            )
        return found

    @property
    def has_captions(self):
        """`True` if the examples have captions."""
        return self.captions() is not None

    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, index):
        return self.example(index)


class ArraySource(ImageSource):
    """A source of images in memory.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`.
        labels: int32 array of shape `(N,)`, or `None` without classes.
        class_names: list of strings, or `None`.
        captions: list of `N` strings, or `None`.

    Example:
    >>> images, labels = keras_simple_diffusion.data.load_digits(32)
    >>> source = keras_simple_diffusion.data.ArraySource(images, labels)
    """

    def __init__(self, images, labels=None, class_names=None, captions=None):
        if labels is not None:
            labels = np.asarray(labels, "int32")
        columns = {"images": images, "labels": labels, "captions": captions}
        self._columns = {k: v for k, v in columns.items() if v is not None}
        lengths = {name: len(each) for name, each in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(
                "Images, labels and captions must have the same length. "
                f"Received: {lengths}"
            )
        digest = 0
        for name, column in self._columns.items():
            array = np.ascontiguousarray(column)
            kind = f"{name} {array.shape} {array.dtype}"
            digest = zlib.crc32(kind.encode(), digest)
            digest = zlib.crc32(array.view("uint8"), digest)
        super().__init__(images.shape[1:], class_names, f"{digest:08x}")

    def __len__(self):
        return len(self._columns["images"])

    def captions(self):
        captions = self._columns.get("captions")
        return captions if captions is None else list(captions)

    def example(self, index, rng=None):
        return {name: column[index] for name, column in self._columns.items()}


class _Subset(ImageSource):
    def __init__(self, source, chosen):
        super().__init__(
            source.image_shape,
            source.class_names,
            _digest(source.fingerprint, chosen),
        )
        self._source = source
        self._chosen = chosen

    def content_digest(self):
        return _digest(self._source.content_digest(), self._chosen)

    def __len__(self):
        return len(self._chosen)

    def captions(self):
        if not self.has_captions:
            return None
        return [text for _, texts in self.annotations() for text in texts]

    @property
    def has_captions(self):
        return self._source.has_captions

    def annotations(self):
        found = self._source.annotations()
        return [found[index] for index in self._chosen]

    def example(self, index, rng=None):
        return self._source.example(self._chosen[index], rng)


def _digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def take(source, count, seed=0):
    """Choose at most `count` images at random, the same in every call.

    Args:
        source: an `ImageSource`.
        count: int.
        seed: int. Defaults to `0`.

    Returns:
        An `ImageSource`.
    """
    if len(source) <= count:
        return source
    chosen = np.random.default_rng(seed).choice(
        len(source), count, replace=False
    )
    return _Subset(source, chosen.tolist())


def stack(examples, keys=None):
    """Stack examples to one batch.

    Args:
        examples: list of dicts.
        keys: names of the entries to keep, or `None` for all.

    Returns:
        A dict of arrays whose first axis is that of the examples.
    """
    return {
        key: np.stack([example[key] for example in examples])
        for key in examples[0]
        if keys is None or key in keys
    }


class WrappedSource(ImageSource):
    """Base class of sources that change the examples of another one.

    Subclasses define `example`, and override what else they change.

    Args:
        source: an `ImageSource`.
    """

    def __init__(self, source):
        super().__init__(
            source.image_shape, source.class_names, source.fingerprint
        )
        self.source = source
        self.left_out = source.left_out
        self.mixture = source.mixture
        self.buckets = source.buckets
        self.crop = getattr(source, "crop", None)  # For `keep_decoded`.

    def content_digest(self):
        return self.source.content_digest()

    def captions(self):
        return self.source.captions()

    @property
    def has_captions(self):
        return self.source.has_captions

    def annotations(self):
        return self.source.annotations()

    def __len__(self):
        return len(self.source)


_MAX_BYTES = 2**30


class DecodedSource(WrappedSource):
    """A source that keeps decoded images in memory.

    Args:
        source: an `ImageSource` whose examples are the same in every call.
    """

    def __init__(self, source):
        super().__init__(source)
        self._kept = {}

    def example(self, index, rng=None):
        if index not in self._kept:
            self._kept[index] = self.source.example(index)
        return dict(self._kept[index])


def keep_decoded(source):
    """Keep decoded images in memory, if the source allows it.

    Its examples must be the same in every call (no random crops, no choice of
    captions) and take at most 1 GiB.

    Args:
        source: an `ImageSource`.

    Returns:
        A `DecodedSource`, or the source itself.
    """
    height, width, channels = source.image_shape
    if (
        getattr(source, "crop", None) != "center"
        or source.has_captions
        or len(source) * height * width * channels > _MAX_BYTES
    ):
        return source
    return DecodedSource(source)


class EmbeddedSource(WrappedSource):
    """A source with stored embeddings in place of captions.

    Args:
        source: an `ImageSource` with captions.
        cache: an `EmbeddingCache` that contains all of its captions.
        sequence_length: int. Length to which embeddings are padded.
    """

    def __init__(self, source, cache, sequence_length):
        super().__init__(source)
        self.cache = cache
        self.sequence_length = sequence_length

    def example(self, index, rng=None):
        example = self.source.example(index, rng)
        caption = str(example.pop("captions"))
        embeddings = self.cache.read(caption, self.sequence_length)
        example["context"], example["context_mask"] = embeddings
        return example


class RelabelledSource(WrappedSource):
    """A source whose classes are numbered as another one's, or left out.

    Args:
        source: an `ImageSource` with classes.
        class_names: list of strings, or `None` to leave out the classes.
        numbers: list of ints, the new number of each class of `source`.
    """

    def __init__(self, source, class_names, numbers=()):
        super().__init__(source)
        self.class_names = class_names
        self.numbers = np.array(numbers, "int32")

    def annotations(self):
        return [
            (
                None if self.class_names is None else int(self.numbers[label]),
                captions,
            )
            for label, captions in self.source.annotations()
        ]

    def example(self, index, rng=None):
        example = dict(self.source.example(index, rng))
        label = example.pop("labels")
        if self.class_names is not None:
            example["labels"] = self.numbers[label]
        return example
