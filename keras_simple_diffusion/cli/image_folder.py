"""Many images, one file each, that an interruption does not lose."""

import json
import secrets

from PIL import Image
from rich import progress

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file

_SETTINGS = "settings.json"


def fill_folder(draw, folder, num_images, settings, batch_size, resume):
    """Write images `000000.png`, `000001.png`, ... into a folder.

    Args:
        draw: function that draws images, from a list of their numbers and a
            seed.
        folder: path. It must be new or empty, unless `resume` is set; then
            the images that it lacks are drawn.
        num_images: int.
        settings: dict of what the images depend on, kept in the folder.
        batch_size: int. Images drawn at once.
        resume: bool.
    """
    if resume:
        settings = _stored_settings(folder, settings)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"'{folder}' holds something already. Choose another --output, or "
            "pass --resume to go on filling it."
        )
    if settings["seed"] is None:
        settings["seed"] = secrets.randbits(63)
    with whole_file(folder / _SETTINGS) as draft:
        draft.write_text(json.dumps(settings, indent=2) + "\n")
    paths = [folder / f"{i:06d}.png" for i in range(num_images)]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    for start in progress.track(
        range(0, len(missing), batch_size), "drawing", disable=not missing
    ):
        indices = missing[start : start + batch_size]
        images = draw(indices, settings["seed"])
        for i, image in zip(indices, images, strict=True):
            with whole_file(paths[i]) as draft:
                if image.shape[-1] == 1:
                    image = image[..., 0]
                Image.fromarray(image).save(draft)


def _stored_settings(folder, settings):
    path = folder / _SETTINGS
    if not path.exists():
        raise InputError(
            f"'{folder}' has no {_SETTINGS}: there is nothing to resume. "
            "Leave --resume out."
        )
    stored = json.loads(path.read_text())
    for key, value in settings.items():
        if key == "seed" and value is None:
            continue
        if stored.get(key) != value:
            raise InputError(
                f"'{folder}' was begun with {key}={stored.get(key)}. "
                f"Received: {key}={value}. Repeat its options to resume it."
            )
    return stored
