"""Sources of encoded images, which are decoded one by one."""

import hashlib
import threading
import warnings

import numpy as np

from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.data.formats import open_image
from keras_simple_diffusion.data.formats import reason_of
from keras_simple_diffusion.data.pixels import is_gray
from keras_simple_diffusion.data.sources import ImageSource
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import printable
from keras_simple_diffusion.utils.user_text import some_of

_MAX_IN_A_ROW = 32
_MAX_NAMED = 10
_CROPS = ("center", "random")


class EncodedSource(ImageSource):
    """Base class of sources of encoded images.

    An image that cannot be read is replaced by the next readable one. A
    warning names each of the first ten.

    Args:
        place: string. Name of the data in errors.
        decoder: a `Decoder`.
        crop: string. `"center"`, or `"random"` for another part of the image
            in each call with a random number generator.
        class_names: list of strings, or `None`.
        fingerprint: string.
    """

    def __init__(self, place, decoder, crop, class_names, fingerprint):
        crop = "center" if crop == "centre" else crop  # Both spellings.
        if crop not in _CROPS:
            raise InputError(
                f"`crop` must be one of {_CROPS}. Received: crop={crop!r}"
            )
        super().__init__(decoder.image_shape, class_names, fingerprint)
        self.place = place
        self.decoder = decoder
        self.crop = crop
        self.broken = {}
        self._lock = threading.Lock()

    def __getstate__(self):
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())

    def name(self, index):
        """Return the name of an image."""
        raise NotImplementedError

    def record(self, index):
        """Return one encoded image with its label and captions.

        Args:
            index: int.

        Returns:
            A tuple: bytes, label or `None`, and list of captions or `None`.
        """
        raise NotImplementedError

    def annotations(self):
        return [self.record(index)[1:] for index in range(len(self))]

    def decode(self, index, position=None, choice=0.0):
        """Decode one example, or raise an error of `UNREADABLE`.

        Args:
            index: int.
            position: place of the crop, see `Decoder`.
            choice: float in `[0, 1)` that selects one of several captions.
        """
        content, label, captions = self.record(index)
        example = self.decoder(content, position)
        if label is not None:
            example["labels"] = np.int32(label)
        if captions is not None:
            example["captions"] = captions[int(choice * len(captions))]
        return example

    def has_color(self, count=16):
        """Test if any of a few images, evenly spaced, is stored in color."""
        for index in range(0, len(self), -(-len(self) // count)):
            try:
                with open_image(self.record(index)[0]) as image:
                    if not is_gray(image):
                        return True
            except UNREADABLE:
                continue  # Reading it for training names it.
        return False

    def example(self, index, rng=None):
        position, choice = None, 0.0
        if rng is not None:
            *position, choice = rng.random(3)
            if self.crop == "center":
                position = None
        attempts = min(_MAX_IN_A_ROW, len(self))
        for offset in range(attempts):
            candidate = (index + offset) % len(self)
            try:
                return self.decode(candidate, position, choice)
            except InputError:
                raise
            except UNREADABLE as error:
                self._note(candidate, error)
        names = [self.name((index + i) % len(self)) for i in range(attempts)]
        reason = self.broken[names[-1]]
        raise InputError(
            f"{attempts} images in a row of '{self.place}' cannot be read: "
            f"{some_of(names)} ({printable(reason)})"
        )

    def _note(self, index, error):
        name = self.name(index)
        with self._lock:
            if name in self.broken:
                return
            self.broken[name] = reason_of(error)
            count = len(self.broken)
        if count <= _MAX_NAMED:
            warnings.warn(
                f"'{printable(name)}' of '{self.place}' cannot be read and is "
                f"replaced by another image ({printable(self.broken[name])})",
                stacklevel=2,
            )
        if count == _MAX_NAMED + 1:
            warnings.warn(
                f"More than {_MAX_NAMED} images of '{self.place}' cannot be "
                "read; `keras-simple-diffusion inspect-data` names them all.",
                stacklevel=2,
            )


class FileSource(EncodedSource):
    """A source of the image files of a folder or zip.

    Args:
        listing: a `Listing`.
        decoder: a `Decoder`.
        crop: string, see `EncodedSource`. Defaults to `"center"`.
    """

    def __init__(self, listing, decoder, crop="center"):
        super().__init__(
            str(listing.container.path),
            decoder,
            crop,
            listing.class_names,
            listing.fingerprint,
        )
        self.listing = listing
        self.left_out = listing.left_out

    def __len__(self):
        return len(self.listing.names)

    def name(self, index):
        return self.listing.names[index]

    def content_digest(self):
        container, names, *_ = self.listing
        digest = hashlib.sha256(self.fingerprint.encode())
        for name in names:
            line = f"{name} {container.stamp(name)}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def captions(self):
        captions = self.listing.captions
        return captions and [text for texts in captions for text in texts]

    def annotations(self):
        *_, labels, captions = self.listing[:4]
        nothing = [None] * len(self)
        return list(zip(labels or nothing, captions or nothing, strict=True))

    def record(self, index):
        container, names, labels, captions, *_ = self.listing
        content = container.read(names[index])
        return content, labels and labels[index], captions and captions[index]
