"""The command `keras-simple-diffusion`. Keras is imported inside commands."""

import sys
import warnings

import typer

from keras_simple_diffusion.cli import edit
from keras_simple_diffusion.cli import evaluate
from keras_simple_diffusion.cli import generate
from keras_simple_diffusion.cli import inspect_data
from keras_simple_diffusion.cli import presets
from keras_simple_diffusion.cli import train
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import printable

__all__ = ["main"]

# In the order of the help.
_COMMANDS = (
    train.train,
    presets.embed,
    presets.average,
    generate.generate,
    edit.edit,
    edit.inpaint,
    edit.upscale,
    edit.interpolate,
    evaluate.evaluate,
    inspect_data.inspect_data,
    presets.presets,
)


def __dir__():
    return __all__


def main():
    """Run the command line; a user's mistake becomes one line and status 2."""
    warnings.formatwarning = _one_line
    app = typer.Typer(
        help="Train image diffusion models in pixels, and generate from them.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in _COMMANDS:
        app.command()(command)
    try:
        app()
    except InputError as error:
        print(f"Error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


def _one_line(message, *args, **kwargs):
    return f"Warning: {printable(str(message))}\n"
