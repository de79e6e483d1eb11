from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.utils.errors import InputError


def average(
    run: Annotated[
        str, typer.Option(help="A run that was trained with --snapshots.")
    ],
    output: Annotated[str, typer.Option(help="Folder of the new preset.")],
    width: Annotated[
        float | None,
        typer.Option(help="Width relative to the training, such as 0.15."),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(help="Of an exponential average, such as 0.999."),
    ] = None,
):
    """Make a preset of another average of a run's weights."""
    check_backend()
    if (width is None) == (decay is None):
        raise InputError(
            "`average` needs either --width or --decay. Received: "
            f"{'both' if width is not None else 'none'}"
        )
    from keras_simple_diffusion.optimizers import ExponentialProfile
    from keras_simple_diffusion.optimizers import PowerProfile
    from keras_simple_diffusion.training import reconstruct

    profile = (
        PowerProfile(width) if decay is None else ExponentialProfile(decay)
    )
    model, distance = reconstruct(run, profile)
    model.save_to_preset(output)
    print(f"The preset is in {output}; its average is {distance:.1%} off.")
