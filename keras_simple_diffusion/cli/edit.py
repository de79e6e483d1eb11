"""Commands that start from images: edit, inpaint, upscale, interpolate."""

import pathlib
import re
from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import image_settings
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils import bars
from keras_simple_diffusion.utils.errors import InputError

Image = Annotated[
    str, typer.Option(help="An image file; it is cropped and resized to fit.")
]
Count = Annotated[
    int,
    typer.Option(min=1, max=shared.MAX_IMAGES, help="Number of images."),
]


def edit(
    model: shared.Model,
    image: Image,
    strength: Annotated[
        float,
        typer.Option(help="0 keeps the image, 1 forgets it."),
    ] = 0.6,
    num_images: Count = 8,
    labels: shared.Labels = None,
    prompt: shared.Prompts = None,
    negative_prompt: shared.NegativePrompt = None,
    portrait: shared.Portrait = False,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    scale: shared.Scale = None,
    output: shared.Output = "edited.png",
):
    """Make variations of an image; the sheet begins with the image."""
    task, wanted = _prepare(
        *(model, output, labels, prompt, negative_prompt, portrait),
        *(num_images, scale),
    )
    options = {"num_steps": steps, "guidance_scale": guidance}
    settings = image_settings.describe(
        task, model, wanted, seed=seed, sampler=sampler, **options
    )
    start = shared.read_image(image, task, portrait=portrait)
    with bars.Bar("drawing", num_images):
        images = task.edit(
            _repeat(start, num_images),
            strength=strength,
            seed=settings["seed"],
            sampler=sampler,
            **options,
            **wanted.arguments(),
        )
    settings |= {"command": "edit", "image": image, "strength": strength}
    _save([start], images, wanted, settings, scale, output)


def inpaint(
    model: shared.Model,
    image: Image,
    mask: Annotated[
        str, typer.Option(help="An image file, white where to redraw.")
    ],
    num_images: Count = 8,
    labels: shared.Labels = None,
    prompt: shared.Prompts = None,
    negative_prompt: shared.NegativePrompt = None,
    portrait: shared.Portrait = False,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    scale: shared.Scale = None,
    output: shared.Output = "inpainted.png",
):
    """Redraw a part of an image; the sheet begins with image and hole."""
    task, wanted = _prepare(
        *(model, output, labels, prompt, negative_prompt, portrait),
        *(num_images, scale),
    )
    options = {"num_steps": steps, "guidance_scale": guidance}
    settings = image_settings.describe(
        task, model, wanted, seed=seed, sampler=sampler, **options
    )
    start = shared.read_image(image, task, portrait=portrait)
    is_drawn = shared.read_image(mask, task, portrait=portrait).mean(-1) > 127
    with bars.Bar("drawing", num_images):
        images = task.inpaint(
            _repeat(start, num_images),
            is_drawn,
            seed=settings["seed"],
            sampler=sampler,
            **options,
            **wanted.arguments(),
        )
    hole = start.copy()
    hole[is_drawn] = 127
    settings |= {"command": "inpaint", "image": image, "mask": mask}
    _save([start, hole], images, wanted, settings, scale, output)


def upscale(
    model: shared.Model,
    image: Image,
    factor: Annotated[
        int,
        typer.Option(min=2, help="Factor by which it is made smaller first."),
    ] = 4,
    num_images: Count = 8,
    labels: shared.Labels = None,
    prompt: shared.Prompts = None,
    negative_prompt: shared.NegativePrompt = None,
    portrait: shared.Portrait = False,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    scale: shared.Scale = None,
    output: shared.Output = "upscaled.png",
):
    """Upscale a small image; the sheet begins with the small image."""
    task, wanted = _prepare(
        *(model, output, labels, prompt, negative_prompt, portrait),
        *(num_images, scale),
    )
    options = {"num_steps": steps, "guidance_scale": guidance}
    settings = image_settings.describe(
        task, model, wanted, seed=seed, sampler=sampler, **options
    )
    height, width, _ = task.backbone.image_shape
    if height % factor or width % factor:
        raise InputError(
            f"`--factor` must divide the model's images of {height} x "
            f"{width}. Received: {factor}"
        )
    small = shared.read_image(image, task, factor, portrait)
    with bars.Bar("drawing", num_images):
        images = task.upscale(
            _repeat(small, num_images),
            seed=settings["seed"],
            sampler=sampler,
            **options,
            **wanted.arguments(),
        )
    blocks = small.repeat(factor, axis=0).repeat(factor, axis=1)
    settings |= {"command": "upscale", "image": image, "factor": factor}
    _save([blocks], images, wanted, settings, scale, output)


def interpolate(
    model: shared.Model,
    first: Annotated[str, typer.Option(help="A seed, or an image file.")],
    second: Annotated[str, typer.Option(help="A seed, or an image file.")],
    num_images: Count = 8,
    labels: shared.Labels = None,
    prompt: shared.Prompts = None,
    negative_prompt: shared.NegativePrompt = None,
    portrait: shared.Portrait = False,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    scale: shared.Scale = None,
    output: shared.Output = "interpolated.png",
):
    """Draw images between two others."""
    check_backend()
    shared.check_sheet(output)
    task = shared.load_model(model)
    if labels is None and task.backbone.num_classes is not None:
        labels = str(task.backbone.num_classes)  # The null label.
    wanted = shared.choose_conditions(
        task, labels, prompt, negative_prompt, portrait, num_images
    )
    shared.check_sheet_size(task, num_images, scale)
    ends = [
        int(end)
        if re.fullmatch("[0-9]{1,20}", end)
        else shared.read_image(end, task, portrait=portrait)
        for end in (first, second)
    ]
    if guidance is None and not all(isinstance(end, int) for end in ends):
        guidance = 1.0  # As `interpolate`, so that images are reached.
    options = {"num_steps": steps, "guidance_scale": guidance}
    settings = image_settings.describe(
        task, model, wanted, seed=0, sampler="ddim", **options
    )
    settings |= {"command": "interpolate", "first": first, "second": second}
    del settings["seed"]  # The ends decide.
    with bars.Bar("drawing", num_images):
        images = task.interpolate(
            *ends, num_images, **options, **wanted.arguments()
        )
    _save([], images, wanted, settings, scale, output, columns=num_images)


def _prepare(
    model,
    output,
    labels,
    prompts,
    negative_prompt,
    portrait,
    num_images,
    scale,
):
    """Check the output, load the model and choose its conditions."""
    check_backend()
    shared.check_sheet(output)
    task = shared.load_model(model)
    wanted = shared.choose_conditions(
        task, labels, prompts, negative_prompt, portrait, num_images
    )
    shared.check_sheet_size(task, num_images, scale)
    return task, wanted


def _repeat(image, count):
    return image[None].repeat(count, axis=0)


def _save(given, images, wanted, settings, scale, output, **layout):
    """Save a sheet that begins with given images, and say where it is."""
    import numpy as np

    for name in ("image", "mask", "first", "second"):
        if name in settings:  # A file's name, without its place.
            settings[name] = pathlib.Path(settings[name]).name
    captions = ["given", "known"][: len(given)]
    captions += wanted.captions or [""] * len(images)
    if not any(captions):
        captions = None
    shared.save_sheet(
        np.concatenate([*(each[None] for each in given), images]),
        output,
        {**settings, "captions": wanted.captions},
        scale=scale,
        captions=captions,
        **layout,
    )
    shared.say_where(len(images), output, settings.get("seed"))
