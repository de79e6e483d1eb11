"""Many images, one file each, that an interruption does not lose."""

from PIL import Image
from rich import progress

from keras_simple_diffusion.utils.files import begin_or_resume
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.files import write_settings


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
    settings = begin_or_resume(folder, settings, resume)
    write_settings(folder, settings)
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
