import pathlib
from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError


def generate(
    model: shared.Model,
    num_images: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of images. (default: one a label, or 16)"
        ),
    ] = None,
    labels: shared.Labels = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="What to draw, for a model of texts; repeated ones are drawn "
            "in turn."
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What guidance leads away from.")
    ] = None,
    portrait: Annotated[
        bool,
        typer.Option("--portrait", help="Higher than wide, where a model can."),
    ] = False,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(help="Log-SNRs LOW,HIGH between which there is guidance."),
    ] = None,
    sampler: shared.SamplerName = None,
    spacing: shared.Spacing = "time",
    seed: shared.Seed = None,
    steps_strip: Annotated[
        bool,
        typer.Option(
            "--steps-strip", help="Draw what the steps predict, a row each."
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images drawn at once.")
    ] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on filling the folder.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(help="A .png sheet, or a folder for one file an image."),
    ] = "images.png",
):
    """Generate images from a trained model, on one sheet or in a folder."""
    check_backend()
    from keras_simple_diffusion.generation.arguments import choose_labels

    one_sheet = shared.is_sheet(output)
    if resume and one_sheet:
        raise InputError(
            "`--resume` goes on filling a folder. Received: --output "
            f"{output}, which is a file."
        )
    task = shared.load_any_model(model)
    options = {
        "num_steps": steps,
        "guidance_scale": guidance,
        "guidance_interval": shared.read_interval(guidance_interval),
        "sampler": shared.make_sampler(sampler),
        "spacing": spacing,
        "batch_size": batch_size,
    }
    if task.backbone.context_dim is None:
        _check_unused("takes no text", prompt, negative_prompt, portrait)
        num_images, chosen = choose_labels(task, labels, num_images)
    else:
        _check_unused("takes --prompt, not --labels", labels)
        num_images, chosen = _choose_prompts(prompt, num_images)
        options["negative_prompts"] = negative_prompt
        options["portrait"] = portrait

    def draw(indices, seed, **more):
        wanted = chosen and [chosen[i] for i in indices]
        if task.backbone.context_dim is None:
            wanted = (len(indices), wanted)
        else:
            wanted = (wanted,)
        more = {**options, **more}
        return task.generate(*wanted, indices=indices, seed=seed, **more)

    everything = list(range(num_images))
    if not one_sheet:
        from keras_simple_diffusion.cli.image_folder import fill_folder

        settings = {
            "model": str(model),
            "labels": labels,
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "portrait": portrait,
            "steps": steps,
            "guidance": guidance,
            "guidance_interval": guidance_interval,
            "sampler": sampler,
            "spacing": spacing,
            "seed": seed,
        }
        folder = pathlib.Path(output)
        fill_folder(draw, folder, num_images, settings, batch_size, resume)
    elif steps_strip:
        _, _, clean = draw(everything, seed, return_steps=True)
        _save_strip(clean, shared.captions_of(task, chosen), output)
    else:
        images = draw(everything, seed)
        captions = shared.captions_of(task, chosen)
        shared.save_sheet(images, output, captions=captions)
    print(f"{num_images} images are in {output}")


def _check_unused(what, *options):
    if any(options):
        raise InputError(
            f"The model {what}. Received: "
            f"{next(option for option in options if option)}"
        )


def _choose_prompts(prompts, num_images):
    if not prompts:
        raise InputError(
            "The model draws images of texts: pass --prompt, such as "
            '--prompt "a red apple".'
        )
    num_images = num_images or len(prompts)
    return num_images, [prompts[i % len(prompts)] for i in range(num_images)]


def _save_strip(clean, names, output):
    """A row an image: up to 12 of its predicted clean images, in order."""
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
