from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.utils.errors import InputError


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

    profile = (
        PowerProfile(width) if decay is None else ExponentialProfile(decay)
    )
    model, distance = reconstruct(run, profile)
    model.save_to_preset(output)
    print(
        f"The preset is in {output}. Its average differs by {distance:.1%} "
        "from the requested one."
    )
