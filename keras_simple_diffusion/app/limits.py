"""Bounds of what visitors send, and of what the app keeps and shows."""

import contextlib
import importlib
import os
import re
import tempfile
import warnings

from PIL import Image
from PIL import UnidentifiedImageError

from keras_simple_diffusion.data.containers import read_file
from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.data.formats import open_image
from keras_simple_diffusion.data.formats import reason_of
from keras_simple_diffusion.utils.errors import InputError

MAX_BYTES = 8 * 2**20  # Of an uploaded file.
MAX_PIXELS = 16 * 10**6  # Of an uploaded image.
MAX_WAITING = 32  # Drawings in the queue.
MAX_VISITORS = 200  # Whose images are remembered.
MAX_REMEMBERED = 48  # Images of one visitor.
HOUR = 3600  # Seconds after which files and images are forgotten.
_OLDEST, _NEWEST = 6, 6  # Major versions of Gradio.


def load_gradio():
    """Import Gradio.

    Returns:
        The module.

    Raises:
        InputError: if it is not installed, or of an untested version.
    """
    advice = 'Run pip install "keras-simple-diffusion[app]"'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gradio = importlib.import_module("gradio")
    except ImportError as error:
        raise InputError(
            f"The app needs Gradio, which cannot be imported: {error}. {advice}"
        ) from error
    version = str(getattr(gradio, "__version__", "unknown"))
    found = re.match(r"\d+", version)
    if not found or not _OLDEST <= int(found[0]) <= _NEWEST:
        raise InputError(
            f"The app needs Gradio {_OLDEST}. Received: gradio {version}. "
            f"{advice}"
        )
    return gradio


def read_upload(path, image_shape):
    """Read an uploaded image, cropped and resized for a model.

    Args:
        path: path of the file.
        image_shape: tuple `(height, width, channels)`.

    Returns:
        A `uint8` array of this shape.

    Raises:
        InputError: if it is no image, or too large.
    """
    height, width, channels = image_shape
    with reading_images():
        if os.path.getsize(path) > MAX_BYTES:
            raise OSError(f"it has more than {MAX_BYTES // 2**20} MiB")
        content = read_file(path)
        with open_image(content) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
        return Decoder((height, width), channels)(content)["images"]


@contextlib.contextmanager
def reading_images():
    """Context in which an image that cannot be read is an `InputError`."""
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.filename is not None:
            error = error.strerror  # Without the place of the file.
            raise InputError(f"The file cannot be read: {error}") from None
        reason = reason_of(error)
        if isinstance(error, Image.DecompressionBombError):
            reason = f"it has more than {MAX_PIXELS // 10**6} million pixels"
        if isinstance(error, UnidentifiedImageError):
            reason = "it is no image"  # Pillow names the place of the file.
        raise InputError(
            f"The file is not a readable image: {reason}"
        ) from error


@contextlib.contextmanager
def private_files():
    """Context in which Gradio keeps its files in a folder of this process.

    The folder is removed at the end. Images of more than 16 million pixels are
    not decoded, whatever part of Gradio opens them.

    Yields:
        The path of the folder.
    """
    before = os.environ.get("GRADIO_TEMP_DIR")
    pixels = Image.MAX_IMAGE_PIXELS
    with tempfile.TemporaryDirectory(prefix="ksd-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Twice that is an error.
        try:
            with warnings.catch_warnings():
                kind = Image.DecompressionBombWarning
                warnings.simplefilter("ignore", kind)
                yield folder
        finally:
            Image.MAX_IMAGE_PIXELS = pixels
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before
