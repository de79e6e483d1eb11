"""Commands that start from images: edit, inpaint, upscale, interpolate."""

from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError

Image = Annotated[
    str, typer.Option(help="An image file; it is cut and resized to fit.")
]
Count = Annotated[int, typer.Option(min=1, help="Number of images.")]


def edit(
    model: shared.Model,
    image: Image,
    strength: Annotated[
        float,
        typer.Option(help="0 keeps the image, 1 forgets it."),
    ] = 0.6,
    num_images: Count = 8,
    labels: shared.Labels = None,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    output: shared.Output = "edited.png",
):
    """Make variations of an image; the sheet begins with the image."""
    check_backend()
    from keras_simple_diffusion.generation.arguments import choose_labels

    shared.check_sheet(output)
    task = shared.load_model(model)
    start = shared.read_image(image, task)
    num_images, chosen = choose_labels(task, labels, num_images)
    images = task.edit(
        _repeat(start, num_images),
        chosen,
        strength,
        num_steps=steps,
        guidance_scale=guidance,
        sampler=shared.make_sampler(sampler),
        seed=seed,
    )
    _save([start], images, task, chosen, output)


def inpaint(
    model: shared.Model,
    image: Image,
    mask: Annotated[
        str, typer.Option(help="An image, white where to draw anew.")
    ],
    num_images: Count = 8,
    labels: shared.Labels = None,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    output: shared.Output = "inpainted.png",
):
    """Draw a part of an image anew; the sheet begins with the hole."""
    check_backend()
    from keras_simple_diffusion.generation.arguments import choose_labels

    shared.check_sheet(output)
    task = shared.load_model(model)
    start = shared.read_image(image, task)
    is_drawn = shared.read_image(mask, task).mean(-1) > 127
    num_images, chosen = choose_labels(task, labels, num_images)
    images = task.inpaint(
        _repeat(start, num_images),
        is_drawn,
        chosen,
        num_steps=steps,
        guidance_scale=guidance,
        sampler=shared.make_sampler(sampler),
        seed=seed,
    )
    hole = start.copy()
    hole[is_drawn] = 127
    _save([start, hole], images, task, chosen, output)


def upscale(
    model: shared.Model,
    image: Image,
    factor: Annotated[
        int,
        typer.Option(min=2, help="How many times smaller it is made first."),
    ] = 4,
    num_images: Count = 8,
    labels: shared.Labels = None,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    output: shared.Output = "upscaled.png",
):
    """Draw large images of a small one; the sheet begins with that."""
    check_backend()
    from keras_simple_diffusion.generation.arguments import choose_labels

    shared.check_sheet(output)
    task = shared.load_model(model)
    height, width, _ = task.backbone.image_shape
    if height % factor or width % factor:
        raise InputError(
            f"`--factor` must divide the model's images of {height} x "
            f"{width}. Received: {factor}"
        )
    small = shared.read_image(image, task, smaller=factor)
    num_images, chosen = choose_labels(task, labels, num_images)
    images = task.upscale(
        _repeat(small, num_images),
        chosen,
        num_steps=steps,
        guidance_scale=guidance,
        sampler=shared.make_sampler(sampler),
        seed=seed,
    )
    blocks = small.repeat(factor, axis=0).repeat(factor, axis=1)
    _save([blocks], images, task, chosen, output)


def interpolate(
    model: shared.Model,
    first: Annotated[str, typer.Option(help="A seed, or an image file.")],
    second: Annotated[str, typer.Option(help="A seed, or an image file.")],
    num_images: Count = 8,
    labels: shared.Labels = None,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    output: shared.Output = "interpolated.png",
):
    """Draw the images on the way from one to another."""
    check_backend()
    from keras_simple_diffusion.generation.arguments import choose_labels

    shared.check_sheet(output)
    task = shared.load_model(model)
    ends = [
        int(end) if end.isdigit() else shared.read_image(end, task)
        for end in (first, second)
    ]
    if labels is None and task.backbone.num_classes is not None:
        labels = str(task.backbone.num_classes)  # The null label.
    num_images, chosen = choose_labels(task, labels, num_images)
    images = task.interpolate(
        *ends,
        num_images,
        chosen,
        num_steps=steps,
        guidance_scale=guidance,
    )
    shared.save_sheet(
        images,
        output,
        columns=num_images,
        captions=shared.captions_of(task, chosen),
    )
    print(f"{num_images} images are in {output}")


def _repeat(image, count):
    return image[None].repeat(count, axis=0)


def _save(given, images, task, labels, output):
    import numpy as np

    captions = ["given"] + ["known"] * (len(given) - 1)
    drawn = shared.captions_of(task, labels) or [""] * len(images)
    shared.save_sheet(
        np.concatenate([np.stack(given), images]),
        output,
        captions=captions + drawn,
    )
    print(f"{len(images)} images are in {output}")
