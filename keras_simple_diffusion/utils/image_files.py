"""Image files that hold the settings which their images were drawn with.

In a PNG file each setting is a text chunk (`tEXt`): its name and its value as
JSON. In a WebP file all of them are one JSON object, the `ImageDescription` of
its Exif data.
"""

import json
import pathlib

from PIL import ExifTags
from PIL import Image
from PIL import PngImagePlugin

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.version import __version__

_VERSION = "keras-simple-diffusion"


def save_image(image, path, settings):
    """Save an image, in a PNG or WebP file with its settings.

    Args:
        image: a `PIL.Image.Image`.
        path: path of the file. One of another format holds no settings. WebP
            is lossless.
        settings: dict from names to JSON values; `None` and `False` are left
            out. The version of this library is added.
    """
    settings = {
        name: value
        for name, value in {**settings, _VERSION: __version__}.items()
        if value is not None and value is not False
    }
    if pathlib.Path(path).suffix.lower() == ".webp":
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = json.dumps(settings)
        image.save(path, exif=exif, lossless=True)
    else:
        text = PngImagePlugin.PngInfo()
        for name, value in settings.items():
            text.add_text(name, json.dumps(value))
        image.save(path, pnginfo=text)


def read_settings(path):
    """Read the settings of an image that `save_image` wrote.

    Args:
        path: path of the file.

    Returns:
        A dict, without the version.

    Raises:
        InputError: if the file holds no settings.
    """
    try:
        with Image.open(path, formats=["PNG", "WEBP"]) as image:
            settings = _SETTINGS[image.format](image)
        if settings.pop(_VERSION, None) is not None:
            return settings
    except Exception as error:  # Pillow has many for files that are damaged.
        raise InputError(
            f"'{path}' is not a readable .png or .webp file: {error}"
        ) from error
    raise InputError(
        f"'{path}' holds no settings to repeat. Pass a .png or .webp file that "
        "this library has written and no other program has changed."
    )


def _settings_of_png(image):
    if _VERSION not in image.text:
        return {}
    return {name: json.loads(value) for name, value in image.text.items()}


def _settings_of_webp(image):
    text = image.getexif().get(ExifTags.Base.ImageDescription)
    settings = json.loads(text) if text else {}
    return settings if isinstance(settings, dict) else {}


_SETTINGS = {"PNG": _settings_of_png, "WEBP": _settings_of_webp}
