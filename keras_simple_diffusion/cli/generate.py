import pathlib
import re
from typing import Annotated

import typer

from keras_simple_diffusion.utils.backend import check_backend
from keras_simple_diffusion.utils.errors import InputError


def generate(
    model: Annotated[
        str, typer.Option(help="Folder of a run, or a preset with weights.")
    ],
    num_images: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of pictures.  [default: one a label, or 16]"
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Classes, by number or name, separated by commas and "
            "repeated in turn.  [default: all]"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps.  [default: model's]")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Guidance; 1 is none.  [default: model's]"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="[default: a random one]")
    ] = None,
    output: Annotated[
        str, typer.Option(help="The sheet of pictures, a .png file.")
    ] = "pictures.png",
):
    """Generate pictures from a trained model, on one sheet."""
    check_backend()
    from keras_simple_diffusion.models.diffusion_model import DiffusionModel
    from keras_simple_diffusion.utils.files import whole_file
    from keras_simple_diffusion.utils.sheets import draw_sheet

    if pathlib.Path(output).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(
            "The sheet of pictures is a .png or .jpg file. Received: "
            f"--output {output}"
        )
    task = DiffusionModel.from_preset(model)
    num_classes = task.backbone.num_classes
    chosen = None
    if labels is not None:
        chosen = [_find_label(task, text) for text in labels.split(",")]
    elif num_classes is not None:
        chosen = list(range(num_classes))
    if num_images is None:
        num_images = 16 if chosen is None else len(chosen)
    if chosen is not None:
        chosen = [chosen[i % len(chosen)] for i in range(num_images)]
    images = task.generate(
        num_images,
        labels=chosen,
        num_steps=steps,
        guidance_scale=guidance,
        seed=seed,
    )
    captions = chosen and [_caption(task, label) for label in chosen]
    with whole_file(output) as draft:
        draw_sheet(images, captions=captions).save(draft)
    print(f"{num_images} pictures are in {output}")


def _find_label(task, text):
    text = text.strip()
    is_number = re.fullmatch("-?[0-9]+", text)
    if text in (task.class_names or []) or not is_number:
        return text
    return int(text)


def _caption(task, label):
    if isinstance(label, str):
        return label
    if label == task.backbone.num_classes:
        return "(none)"
    return task.class_names[label] if task.class_names else str(label)
