"""PNG files that hold the settings which their images were drawn with.

Each setting is a text chunk (`tEXt`): its name and its value as JSON.
"""

import json

from PIL import Image
from PIL import PngImagePlugin

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.version import __version__

_VERSION = "keras-simple-diffusion"


def save_image(image, path, settings):
    """Save an image, in a PNG file with its settings.

    Args:
        image: a `PIL.Image.Image`.
        path: path of the file. One of another format holds no settings.
        settings: dict from names to JSON values; `None` and `False` are left
            out. The version of this library is added.
    """
    text = PngImagePlugin.PngInfo()
    for name, value in {**settings, _VERSION: __version__}.items():
        if value is not None and value is not False:
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
        with Image.open(path, formats=["PNG"]) as image:
            text = dict(image.text)
        if text.pop(_VERSION, None) is not None:
            return {name: json.loads(value) for name, value in text.items()}
    except Exception as error:  # Pillow has many for files that are damaged.
        raise InputError(
            f"'{path}' is not a readable .png file: {error}"
        ) from error
    raise InputError(
        f"'{path}' holds no settings to repeat. Pass a .png file that this "
        "library has written and no other program has changed."
    )
