"""The command `convert`: weights from and for other projects."""

from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import check_is_free
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import locked_folder
from keras_simple_diffusion.utils.files import new_folder
from keras_simple_diffusion.utils.terminal import say


def convert(
    output: Annotated[str, typer.Option(help="The folder, new or empty.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Read this file, or folder of safetensors."),
    ] = None,
    source: Annotated[
        Literal["jit", "safetensors"] | None,
        typer.Option(
            "--from",
            help="What wrote the weights; the output is a preset. jit: a "
            ".pth or .safetensors of JiT.",
        ),
    ] = None,
    ema: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2,
            help="Which average of a checkpoint of JiT, 0 for the weights "
            "themselves. (default: 1)",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Read this preset or run, with --to."),
    ] = None,
    target: Annotated[
        Literal["safetensors"] | None,
        typer.Option(
            "--to",
            help="Write the model as safetensors and JSON files.",
        ),
    ] = None,
):
    """Convert weights of other projects into a preset, or a preset for them."""
    check_backend()
    pairs = {"from": (source, weights), "to": (target, model)}
    complete = [name for name, pair in pairs.items() if all(pair)]
    given = [name for name, pair in pairs.items() if any(pair)]
    if len(complete) != 1 or given != complete:
        raise InputError(
            "`convert` needs either --from and --weights, or --to and --model."
        )
    if ema is not None and source != "jit":
        raise InputError(f"`--ema` is for `--from jit`. Received: ema={ema}")
    check_is_free(output)
    if not is_unused(output):
        raise InputError(f"'{output}' is not empty. Choose another folder.")
    from keras_simple_diffusion import converters

    if source == "jit":
        converted = converters.from_jit(weights, 1 if ema is None else ema)
    elif source == "safetensors":
        converted = converters.from_safetensors(weights)
    else:
        converted = shared.load_model(model)
    with locked_folder(output), new_folder(output) as draft:
        if target:
            converters.to_safetensors(converted, draft)
        else:
            converted.save_to_preset(draft)
    say(f"The {'files are' if target else 'preset is'} in {output}")
