"""The command `generate`: images on one sheet, or one file each."""

import json
import pathlib
from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import image_settings
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils import bars
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import begin_or_resume
from keras_simple_diffusion.utils.files import check_is_free
from keras_simple_diffusion.utils.files import held_folder
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.image_sizes import read_size

_DIGEST = "sha256"  # Name of the text in an image's file.
_MAX_COLUMNS = 12  # Of the steps of an image, in a strip.


def generate(
    model: Annotated[
        str | None,
        typer.Option(help="Folder of a run, or a preset with weights."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="A .png or .webp file of `generate`: repeat its settings and "
            "draw it again. Other options override them."
        ),
    ] = None,
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
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Height x width such as 48x88, of the area of the model's "
            "size. (default: the model's)"
        ),
    ] = None,
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    guidance_interval: shared.GuidanceInterval = None,
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
    spacing: shared.Spacing = None,
    clipping: Annotated[
        Literal["static", "dynamic", "none"] | None,
        typer.Option(
            help="Clipping of the predicted clean images. (default: static)"
        ),
    ] = None,
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
    distribution: shared.Distribution = None,
    scale: shared.Scale = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue to fill the folder.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            help="A .png or .webp sheet, or a folder for one file per image."
        ),
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
        for name, value in (("--steps-strip", steps_strip), ("--scale", scale)):
            if value:
                raise InputError(
                    f"`{name}` is for a sheet. Received: --output {output}, "
                    "which is a folder. Name a .png or .webp file, or leave "
                    f"out {name}."
                )
        check_is_free(output)
    given = {
        "model": model,
        "num_images": num_images,
        "labels": labels,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "portrait": portrait,
        "image_size": image_size,
        "steps": steps,
        "guidance": guidance,
        "guidance_interval": guidance_interval,
        "guidance_rescale": guidance_rescale,
        "guidance_model": guidance_model,
        "sampler": sampler,
        "spacing": spacing,
        "clipping": clipping,
        "seed": seed,
    }
    drawn = {} if like is None else image_settings.read(like)
    absent = [k for k, v in given.items() if v is None or v is False or v == []]
    given |= {name: drawn.get(name) for name in absent}
    if given["model"] is None:
        raise InputError(
            "Pass --model, a run or a preset with weights, or --like, an image "
            "to draw again."
        )
    from keras_simple_diffusion.distribution.processes import is_main_process
    from keras_simple_diffusion.distribution.processes import seed_of_main

    with shared.distributed(distribution):
        task = shared.load_model(given["model"], None if model else like)
        first = drawn.get("number", 0)
        count = given["num_images"]
        wanted = shared.choose_conditions(
            task,
            given["labels"],
            given["prompt"],
            given["negative_prompt"],
            given["portrait"],
            count and first + count,
        )
        numbers = range(first, wanted.count)
        if one_sheet:
            columns = 1
            if steps_strip:
                columns = min(given["steps"] or task.num_steps, _MAX_COLUMNS)
            shared.check_sheet_size(task, len(numbers) * columns, scale)
        guide = given["guidance_model"]
        guide_like = None if guidance_model else like
        clipping = given["clipping"] or "static"
        options = {
            "image_size": given["image_size"]
            and read_size(given["image_size"]),
            "num_steps": given["steps"],
            "guidance_scale": given["guidance"],
            "guidance_interval": shared.read_interval(
                given["guidance_interval"]
            ),
            "guidance_rescale": given["guidance_rescale"],
            "guidance_model": guide and shared.load_model(guide, guide_like),
            "sampler": given["sampler"],
            "spacing": given["spacing"] or "time",
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

        names = ("prompt", "negative_prompt", "portrait")
        settings = {
            "command": "generate",
            "labels": wanted.labels,
            **{name: given[name] for name in names},
            **image_settings.describe(
                task,
                given["model"],
                wanted,
                guide,
                seed=given["seed"],
                **options,
            ),
        }
        image_settings.check_is_same_model(drawn, settings, like)
        shared.choose_execution(task, len(numbers), settings["steps"])
        if one_sheet:
            seed = settings["seed"] = seed_of_main(settings["seed"])
            captions = wanted.captions and [wanted.captions[i] for i in numbers]
            settings |= {"number": first, "num_images": len(numbers)}
            settings["captions"] = captions
            # A single image has nothing around it, so that it can be edited.
            layout = {"captions": captions if len(numbers) > 1 else None}
            is_main = is_main_process()
            with bars.Bar("drawing", len(numbers), is_hidden=not is_main):
                if steps_strip:
                    _, _, images = draw(list(numbers), seed, return_steps=True)
                    images, layout = _arrange_strip(images, captions)
                else:
                    images = draw(list(numbers), seed)
            if is_main:
                shared.save_sheet(
                    images, output, settings, scale=scale, **layout
                )
        else:
            settings["seed"] = given["seed"]  # Or that of the folder.
            folder = pathlib.Path(output)
            seed = _fill_folder(
                draw,
                folder,
                numbers,
                wanted.captions,
                settings,
                batch_size,
                resume,
            )
        if is_main_process():
            shared.say_where(len(numbers), output, seed)


def _arrange_strip(clean, names):
    """Choose some of each image's predicted clean images, in order.

    Returns:
        A tuple of the images, and of arguments of `show` for a row each.
    """
    import numpy as np

    count = clean.shape[1]
    shown = np.unique(
        np.linspace(0, count - 1, min(count, _MAX_COLUMNS)).round()
    )
    clean = clean[:, shown.astype("int64")]
    layout = {"columns": clean.shape[1], "row_names": names}
    return clean.reshape(-1, *clean.shape[2:]), layout


def _fill_folder(draw, folder, numbers, captions, settings, batch_size, resume):
    """Write images `000000.png`, `000001.png`, ... into a folder.

    Each holds the settings, its number, and a digest of these and its pixels,
    so that a damaged image, or one that was drawn otherwise, is drawn again.

    Args:
        draw: function that draws images, from a list of their numbers and a
            seed.
        folder: path. It must be new or empty, unless `resume` is set; then
            the images that it lacks are drawn.
        numbers: range. The numbers of the images.
        captions: list of strings, by number, or `None`.
        settings: dict of what the images depend on, kept in the folder.
        batch_size: int. Images drawn at once.
        resume: bool.

    Returns:
        The seed, an int.
    """
    import numpy as np

    from keras_simple_diffusion.backend.native import from_main_process
    from keras_simple_diffusion.distribution import processes
    from keras_simple_diffusion.utils.image_files import save_image
    from keras_simple_diffusion.utils.sheets import to_pil

    settings = begin_or_resume(folder, settings, resume)
    settings["seed"] = processes.seed_of_main(settings["seed"])
    is_main = processes.is_main_process()
    held = held_folder(folder, settings, resume)
    with processes.entered_by_main(held):
        digest = sha256(json.dumps(settings, sort_keys=True))
        paths = {i: folder / f"{i:06d}.png" for i in numbers}
        keys = {i: f"{digest} {i}" for i in numbers}
        # The main process decides: it may already write while others look.
        is_drawn = [_is_intact(paths[i], keys[i]) for i in numbers]
        is_drawn = from_main_process(np.array(is_drawn, bool))
        missing = np.array(numbers)[np.logical_not(is_drawn)].tolist()
        with bars.Bar("drawing", len(missing), is_hidden=not is_main) as bar:
            for start in range(0, len(missing), batch_size):
                indices = missing[start : start + batch_size]
                images = draw(indices, settings["seed"])
                if is_main:
                    for i, image in zip(indices, images, strict=True):
                        own = {"number": i, "num_images": 1}
                        own["captions"] = captions and [captions[i]]
                        own[_DIGEST] = sha256(keys[i], image)
                        with whole_file(paths[i]) as draft:
                            save_image(to_pil(image), draft, settings | own)
                bar.reach(start + len(indices))
    return settings["seed"]


def _is_intact(path, key):
    """Tell if a file is an image of `_fill_folder`, undamaged."""
    import numpy as np
    from PIL import Image

    from keras_simple_diffusion.data.formats import UNREADABLE

    if not path.is_file():
        return False
    try:
        with Image.open(path, formats=["PNG"]) as image:
            pixels = np.asarray(image)
            digest = json.dumps(sha256(key, pixels))
            return image.text.get(_DIGEST) == digest
    except UNREADABLE:
        return False
