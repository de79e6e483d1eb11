from keras_simple_diffusion.data.sources import PictureSource

_MAX_BYTES = 2**30


class DecodedSource(PictureSource):
    """A source that keeps each picture once it has been decoded.

    Args:
        source: a `PictureSource` whose examples do not change.
    """

    def __init__(self, source):
        super().__init__(
            source.image_shape, source.class_names, source.fingerprint
        )
        self._source = source
        self._kept = {}

    def __len__(self):
        return len(self._source)

    def example(self, index, rng=None):
        if index not in self._kept:
            self._kept[index] = self._source.example(index)
        return dict(self._kept[index])


def keep_decoded(source):
    """A source that decodes each picture once, where that may be done.

    They must be the same each time (no random crops, no choice of captions),
    and take at most 1 GiB together.

    Args:
        source: a `PictureSource`.

    Returns:
        A `DecodedSource`, or the source itself.
    """
    height, width, channels = source.image_shape
    if (
        getattr(source, "crop", None) != "centre"
        or source.captions() is not None
        or len(source) * height * width * channels > _MAX_BYTES
    ):
        return source
    return DecodedSource(source)
