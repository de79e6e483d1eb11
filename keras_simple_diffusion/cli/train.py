from typing import Annotated

import typer

from keras_simple_diffusion.utils.backend import check_backend


def train(
    data: Annotated[
        str, typer.Option(help="digits, or a folder or .zip of pictures.")
    ],
    output: Annotated[str, typer.Option(help="New folder of the run.")],
    preset: Annotated[
        str, typer.Option(help="Network and recipe, see `presets`.")
    ] = "uvit_small_64",
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Height and width in pixels. (default: the preset's)"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps. (default: the preset's)")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Pictures a step. (default: the preset's)"),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of Adam. (default: the preset's)")
    ] = None,
    initialize_from: Annotated[
        str | None,
        typer.Option(
            help="Run or preset whose weights to start from, of the same "
            "network at another image size."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop training after this time.")
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Steps between checkpoints. (default: at the end)"
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="Seed of the whole run."),
    ] = 0,
):
    """Train a model on pictures; the folder of the run holds everything."""
    check_backend()
    from keras_simple_diffusion.training.run import train_run

    train_run(
        data=data,
        preset=preset,
        output=output,
        image_size=image_size,
        seed=seed,
        initialize_from=initialize_from,
        minutes=minutes,
        checkpoint_every=checkpoint_every,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    print(f"The run is in {output}: see samples.png and loss.png there.")
    print(f"More pictures: keras-simple-diffusion generate --model {output}")
