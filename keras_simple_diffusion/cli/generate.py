import pathlib
from typing import Annotated

import typer

from keras_simple_diffusion.cli import sampling
from keras_simple_diffusion.utils.backend import check_backend
from keras_simple_diffusion.utils.errors import InputError


def generate(
    model: sampling.Model,
    num_images: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of pictures. (default: one a label, or 16)"
        ),
    ] = None,
    labels: sampling.Labels = None,
    steps: sampling.Steps = None,
    guidance: sampling.Guidance = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(help="Log-SNRs LOW,HIGH between which there is guidance."),
    ] = None,
    sampler: sampling.SamplerName = None,
    spacing: sampling.Spacing = "time",
    seed: sampling.Seed = None,
    steps_strip: Annotated[
        bool,
        typer.Option(
            "--steps-strip", help="Draw what the steps predict, a row each."
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures drawn at once.")
    ] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on filling the folder.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(help="A .png sheet, or a folder for one file a picture."),
    ] = "pictures.png",
):
    """Generate pictures from a trained model, on one sheet or in a folder."""
    check_backend()
    one_sheet = sampling.is_sheet(output)
    if resume and one_sheet:
        raise InputError(
            "`--resume` goes on filling a folder. Received: --output "
            f"{output}, which is a file."
        )
    task = sampling.load_model(model)
    num_images, chosen = sampling.choose_labels(task, labels, num_images)
    options = {
        "num_steps": steps,
        "guidance_scale": guidance,
        "guidance_interval": sampling.read_interval(guidance_interval),
        "sampler": sampling.make_sampler(sampler),
        "spacing": spacing,
        "batch_size": batch_size,
    }
    if not one_sheet:
        from keras_simple_diffusion.cli.picture_folder import fill_folder

        settings = {
            "model": str(model),
            "labels": labels,
            "steps": steps,
            "guidance": guidance,
            "guidance_interval": guidance_interval,
            "sampler": sampler,
            "spacing": spacing,
            "seed": seed,
        }
        fill_folder(
            task,
            pathlib.Path(output),
            num_images,
            chosen,
            settings,
            options,
            resume,
        )
    elif steps_strip:
        _draw_strip(task, num_images, chosen, {**options, "seed": seed}, output)
    else:
        images = task.generate(num_images, chosen, seed=seed, **options)
        captions = sampling.captions_of(task, chosen)
        sampling.save_sheet(images, output, captions=captions)
    print(f"{num_images} pictures are in {output}")


def _draw_strip(task, num_images, labels, options, output):
    """A row a picture: up to 12 of its predicted clean pictures, in order."""
    import numpy as np

    _, _, clean = task.generate(
        num_images, labels, return_steps=True, **options
    )
    count = clean.shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(count, 12)).round())
    clean = clean[:, shown.astype("int64")]
    sampling.save_sheet(
        clean.reshape(-1, *clean.shape[2:]),
        output,
        columns=clean.shape[1],
        row_names=sampling.captions_of(task, labels),
    )
