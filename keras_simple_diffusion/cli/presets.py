"""Commands that make a preset, and embed captions for one."""

import pathlib
from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import check_is_free
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import locked_folder
from keras_simple_diffusion.utils.files import new_folder
from keras_simple_diffusion.utils.presets import WEIGHT_FILES
from keras_simple_diffusion.utils.terminal import say


def average(
    run: Annotated[
        str, typer.Option(help="Read a run that was trained with --snapshots.")
    ],
    output: Annotated[
        str, typer.Option(help="Write the preset to this folder.")
    ],
    width: Annotated[
        float | None,
        typer.Option(
            help="Average with this width relative to the training, such as "
            "0.15."
        ),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(
            help="Average exponentially with this decay, such as 0.999."
        ),
    ] = None,
):
    """Reconstruct another average of a run's weights as a preset."""
    check_backend()
    if (width is None) == (decay is None):
        raise InputError(
            "`average` needs either --width or --decay. Received: "
            f"{'both' if width is not None else 'none'}"
        )
    from keras_simple_diffusion.optimizers import ExponentialProfile
    from keras_simple_diffusion.optimizers import PowerProfile
    from keras_simple_diffusion.training import reconstruct

    _check_output(output)
    profile = (
        PowerProfile(width) if decay is None else ExponentialProfile(decay)
    )
    model, distance = reconstruct(run, profile)
    with locked_folder(output), new_folder(output) as draft:
        model.save_to_preset(draft)
    say(
        f"The preset is in {output}. Its average differs by {distance:.1%} "
        "from the requested one."
    )


def _check_output(output):
    """Raise an `InputError` if a folder holds anything but an average."""
    check_is_free(output)
    if is_unused(output):
        return
    names = ("config.json", "task.json", "metadata.json", WEIGHT_FILES, ".*")
    folder = pathlib.Path(output)
    if not folder.is_dir() or not all(
        any(map(path.match, names)) for path in folder.iterdir()
    ):
        raise InputError(
            f"'{output}' holds something else than an average already. Choose "
            "another output."
        )


def embed(
    data: Annotated[
        str,
        typer.Option(help="Read captions from a folder, a .zip or tfds:NAME."),
    ],
    preset: Annotated[
        str, typer.Option(help="Use the text encoder of this preset.")
    ],
    output: Annotated[
        str,
        typer.Option(
            help="Write to this folder; what it holds is not computed again."
        ),
    ],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Embed so many captions at once.")
    ] = 64,
    distribution: shared.Distribution = None,
):
    """Embed captions once, for `train --embeddings`."""
    check_backend()
    from keras_simple_diffusion.distribution import is_main_process
    from keras_simple_diffusion.training import embed_data

    with shared.distributed(distribution):
        cache = embed_data(data, preset, output, batch_size)
    if is_main_process():
        say(f"The embeddings of {len(cache.texts)} texts are in {output}")
