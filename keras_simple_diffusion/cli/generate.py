"""The command `generate`: images on one sheet, or one file each."""

import json
import pathlib
from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import begin_or_resume
from keras_simple_diffusion.utils.files import check_is_free
from keras_simple_diffusion.utils.files import held_folder
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import whole_file

_DIGEST = "sha256"  # Name of the text in an image's file.


def generate(
    model: shared.Model,
    num_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=shared.MAX_IMAGES,
            help="Number of images. (default: one per label or prompt, or 16)",
        ),
    ] = None,
    labels: shared.Labels = None,
    prompt: shared.Prompts = None,
    negative_prompt: shared.NegativePrompt = None,
    portrait: shared.Portrait = False,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(help="Log-SNRs LOW,HIGH between which to guide."),
    ] = None,
    guidance_rescale: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of guidance's contrast to take back."
        ),
    ] = None,
    guidance_model: Annotated[
        str | None,
        typer.Option(
            help="Run or preset of a weaker model to guide away from "
            "(autoguidance)."
        ),
    ] = None,
    sampler: shared.SamplerName = None,
    spacing: shared.Spacing = "time",
    clipping: Annotated[
        Literal["static", "dynamic", "none"],
        typer.Option(help="Clipping of the predicted clean images."),
    ] = "static",
    seed: shared.Seed = None,
    steps_strip: Annotated[
        bool,
        typer.Option(
            "--steps-strip",
            help="Show the clean images that the steps predict, a row each.",
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images drawn at once.")
    ] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue to fill the folder.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(help="A .png sheet, or a folder for one file per image."),
    ] = "images.png",
):
    """Generate images from a trained model, on one sheet or in a folder."""
    check_backend()
    one_sheet = shared.is_sheet(output)
    if resume and one_sheet:
        raise InputError(
            "`--resume` continues to fill a folder. Received: --output "
            f"{output}, which is a file."
        )
    if not one_sheet:
        check_is_free(output)
    task = shared.load_model(model)
    wanted = shared.choose_conditions(
        task, labels, prompt, negative_prompt, portrait, num_images
    )
    if one_sheet:
        shared.check_sheet_size(task, wanted.count)
    options = {
        "num_steps": steps,
        "guidance_scale": guidance,
        "guidance_interval": shared.read_interval(guidance_interval),
        "guidance_rescale": guidance_rescale,
        "guidance_model": guidance_model and shared.load_model(guidance_model),
        "sampler": sampler,
        "spacing": spacing,
        "clipping": None if clipping == "none" else clipping,
        "batch_size": batch_size,
    }

    def draw(indices, seed, **more):
        conditions = wanted.arguments(indices)
        if not wanted.lists:
            conditions["num_images"] = len(indices)
        return task.generate(
            **conditions, indices=indices, seed=seed, **options, **more
        )

    everything = list(range(wanted.count))
    if not one_sheet:
        settings = {
            "model": str(model),
            "labels": labels,
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "portrait": portrait,
            "guidance_model": guidance_model,
            "seed": seed,
            **_describe(task, wanted, options),
        }
        folder = pathlib.Path(output)
        _fill_folder(draw, folder, wanted.count, settings, batch_size, resume)
    elif steps_strip:
        _, _, clean = draw(everything, seed, return_steps=True)
        _save_strip(clean, wanted.captions, output)
    else:
        shared.save_sheet(
            draw(everything, seed), output, captions=wanted.captions
        )
    print(f"{wanted.count} images are in {output}")


def _save_strip(clean, names, output):
    """Save a row an image: up to 12 of its predicted clean images, in order."""
    import numpy as np

    count = clean.shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(count, 12)).round())
    clean = clean[:, shown.astype("int64")]
    shared.save_sheet(
        clean.reshape(-1, *clean.shape[2:]),
        output,
        columns=clean.shape[1],
        row_names=names,
    )


def _describe(task, wanted, options):
    """Resolve and check options, and describe all that images depend on.

    Returns:
        A dict of JSON values for `begin_or_resume`.
    """
    from keras_simple_diffusion.generation.arguments import SamplingOptions
    from keras_simple_diffusion.models.content import model_digest
    from keras_simple_diffusion.samplers import log_snr_grid

    options = SamplingOptions(**options)
    one = wanted.arguments([0])  # It is enough to check the options.
    resolved = options.resolve(task, task.find_conditions(options, 1, **one))
    log_snr_grid(task.schedule, resolved.num_steps, resolved.spacing)
    guide = options.guidance_model
    return {
        "steps": resolved.num_steps,
        "guidance": resolved.guidance_scale,
        "guidance_interval": resolved.guidance_interval,
        "guidance_rescale": resolved.guidance_rescale,
        "sampler": repr(resolved.sampler),
        "spacing": resolved.spacing,
        "clipping": resolved.clipping,
        "model_content": model_digest(task),
        "guidance_model_content": guide and model_digest(guide),
    }


def _fill_folder(draw, folder, num_images, settings, batch_size, resume):
    """Write images `000000.png`, `000001.png`, ... into a folder.

    Each holds a digest of its pixels, its number and the settings, so that a
    damaged image, or one that was drawn otherwise, is drawn again.

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
    from rich import progress

    settings = begin_or_resume(folder, settings, resume)
    with held_folder(folder, settings, resume):
        digest = sha256(json.dumps(settings, sort_keys=True))
        paths = [folder / f"{i:06d}.png" for i in range(num_images)]
        keys = [f"{digest} {i}" for i in range(num_images)]
        missing = [
            i for i in range(num_images) if not _is_intact(paths[i], keys[i])
        ]
        for start in progress.track(
            range(0, len(missing), batch_size), "drawing", disable=not missing
        ):
            indices = missing[start : start + batch_size]
            images = draw(indices, settings["seed"])
            for i, image in zip(indices, images, strict=True):
                _save_image(image, paths[i], keys[i])


def _save_image(image, path, key):
    from PIL import Image
    from PIL import PngImagePlugin

    if image.shape[-1] == 1:
        image = image[..., 0]
    facts = PngImagePlugin.PngInfo()
    facts.add_text(_DIGEST, sha256(key, image))
    with whole_file(path) as draft:
        Image.fromarray(image).save(draft, pnginfo=facts)


def _is_intact(path, key):
    """Tell if a file is an image of `_save_image`, undamaged."""
    import numpy as np
    from PIL import Image

    from keras_simple_diffusion.data.formats import UNREADABLE

    if not path.is_file():
        return False
    try:
        with Image.open(path, formats=["PNG"]) as image:
            pixels = np.asarray(image)
            return image.text.get(_DIGEST) == sha256(key, pixels)
    except UNREADABLE:
        return False
