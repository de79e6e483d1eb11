"""The command `keras-simple-diffusion`. Keras is imported inside commands."""

import sys
import warnings

import typer

from keras_simple_diffusion.cli.average import average
from keras_simple_diffusion.cli.edit import edit
from keras_simple_diffusion.cli.edit import inpaint
from keras_simple_diffusion.cli.edit import interpolate
from keras_simple_diffusion.cli.edit import upscale
from keras_simple_diffusion.cli.embed import embed
from keras_simple_diffusion.cli.evaluate import evaluate
from keras_simple_diffusion.cli.generate import generate
from keras_simple_diffusion.cli.inspect_data import inspect_data
from keras_simple_diffusion.cli.presets import presets
from keras_simple_diffusion.cli.train import train
from keras_simple_diffusion.utils.errors import InputError

app = typer.Typer(
    help="Train image diffusion models in pixels, and generate from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(embed)
app.command()(average)
app.command()(generate)
app.command()(edit)
app.command()(inpaint)
app.command()(upscale)
app.command()(interpolate)
app.command()(evaluate)
app.command()(inspect_data)
app.command()(presets)


def _one_line(message, *args, **kwargs):
    return f"Warning: {message}\n"


def main():
    warnings.formatwarning = _one_line
    try:
        app()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
