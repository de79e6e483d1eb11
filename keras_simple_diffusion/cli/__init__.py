"""The command `keras-simple-diffusion`. Keras is imported inside commands."""

import os
import sys
import traceback
import warnings
from typing import Annotated

import typer
from typer.core import TyperGroup

from keras_simple_diffusion.backend.compilation_cache import (
    keep_compiled_programs,
)
from keras_simple_diffusion.backend.lazy_imports import import_lazily
from keras_simple_diffusion.backend.logs import VERBOSE
from keras_simple_diffusion.cli import app
from keras_simple_diffusion.cli import convert
from keras_simple_diffusion.cli import distill
from keras_simple_diffusion.cli import edit
from keras_simple_diffusion.cli import evaluate
from keras_simple_diffusion.cli import export
from keras_simple_diffusion.cli import generate
from keras_simple_diffusion.cli import inspect_data
from keras_simple_diffusion.cli import list_presets
from keras_simple_diffusion.cli import pack
from keras_simple_diffusion.cli import presets
from keras_simple_diffusion.cli import train
from keras_simple_diffusion.cli.failures import explain
from keras_simple_diffusion.utils.interrupts import raise_lost_interrupts
from keras_simple_diffusion.utils.user_text import printable
from keras_simple_diffusion.version import __version__

__all__ = ["main"]

_NAME = "keras-simple-diffusion"

# Commands in the order of the help, with examples.
_COMMANDS = {
    train.train: (
        "train --data photos/",
        "train --data photos/ --preset photos_64 --minutes 60",
        "train --data photos.zip --config recipe.toml --output runs/photos",
        "train --resume runs/photos --steps 20000",
    ),
    distill.distill: (
        "distill --teacher runs/photos --data photos/",
        "distill --teacher emoji_teacher --data drawings/ --steps 2",
        "distill --resume runs/photos-4-steps",
    ),
    presets.embed: (
        "embed --data captioned/ --preset uvit_text_256 --output embeddings",
    ),
    presets.average: (
        "average --run runs/photos --width 0.1 --output averaged",
    ),
    generate.generate: (
        'generate --model emoji --prompt "man astronaut" --seed 1',
        "generate --model photos_64 --labels airplanes,sunflower --guidance 2",
        "generate --model runs/photos --num-images 1000 --output images",
    ),
    edit.edit: ('edit --model emoji --image face.png --prompt "crying face"',),
    edit.inpaint: (
        "inpaint --model photos_64 --image bike.jpg --mask mask.png "
        "--labels Motorbikes",
    ),
    edit.upscale: (
        "upscale --model photos_64 --image small.png --labels sunflower",
    ),
    edit.interpolate: (
        "interpolate --model runs/photos --first 1 --second photo.jpg",
    ),
    app.app: (
        "app --model emoji",
        "app --model runs/photos --port 8000",
        "app --model emoji --export-space space",
    ),
    export.export: (
        "export --model emoji --output emoji_onnx",
        "export --model runs/photos --format openvino --output photos",
        "export --model emoji --format web --output emoji_web",
    ),
    convert.convert: (
        "convert --from jit --weights checkpoint-last.pth --output jit_b16",
        "convert --to safetensors --model emoji --output emoji_files",
        "convert --from safetensors --weights emoji_files --output emoji_2",
    ),
    evaluate.evaluate: (
        "evaluate --model runs/photos --data photos/ --num-images 1000",
        "evaluate --model images/ --data photos/ --metrics fid,kid",
    ),
    inspect_data.inspect_data: (
        "inspect-data --data photos/ --output photos.png",
    ),
    pack.pack: (
        "pack --data photos/ --output photos.array_record",
        "pack --data photos.zip --output photos.array_record --image-size 64",
    ),
    list_presets.presets: ("presets", "presets --json"),
}


def __dir__():
    return __all__


class _Commands(TyperGroup):
    """Commands whose errors are one line, with exit status 2."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            raise typer.Exit(130) from None
        except Exception as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            reason = explain(error, command)
            if reason is None:
                raise
            if os.environ.get(VERBOSE):
                traceback.print_exc()
            print(f"Error: {printable(reason)}", file=sys.stderr)
            raise typer.Exit(2) from None


def main():
    """Run the command line; a user's mistake becomes one line and status 2."""
    warnings.formatwarning = _one_line
    raise_lost_interrupts()
    import_lazily()
    keep_compiled_programs()
    command_line()(prog_name=_NAME)


def command_line():
    """Return the commands, as a `typer.Typer`."""
    commands = typer.Typer(
        cls=_Commands,
        callback=_options_of_all,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command, examples in _COMMANDS.items():
        lines = [f"  {_NAME} {example}" for example in examples]
        epilog = "\n".join(["Examples:", *lines])
        commands.command(epilog=epilog)(command)
    return commands


def _show_version(is_asked):
    if is_asked:
        print(f"{_NAME} {__version__}")
        raise typer.Exit


def _options_of_all(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            envvar=VERBOSE,
            help="Show the log of TensorFlow, and where an error arose.",
        ),
    ] = False,
):
    """Train image diffusion models in pixels, and generate from them."""
    if verbose:
        os.environ[VERBOSE] = "1"


def _one_line(message, *args, **kwargs):
    return f"Warning: {printable(str(message))}\n"
