"""The command `pack`: images in one file, which is read fast."""

from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.terminal import say
from keras_simple_diffusion.utils.user_text import some_of


def pack(
    data: Annotated[
        str,
        typer.Option(
            help="vehicles, digits, a folder, .zip or .array_record of images, "
            "or tfds:NAME."
        ),
    ],
    output: Annotated[
        str, typer.Option(help="The file, such as photos.array_record.")
    ],
    image_size: shared.option(
        int,
        min=1,
        max=2**16,
        help="Cut and resize images to this size, as training does. (default: "
        "files as they are, for training at any size)",
    ) = None,
    encoding: shared.option(
        Literal["pixels", "png", "jpeg"],
        help="How images of --image-size are stored; pixels are read fastest, "
        "png is smaller, jpeg the smallest. (default: pixels)",
    ) = None,
    num_files: shared.option(
        int,
        min=1,
        help="Number of files. (default: one for each 100,000 images)",
    ) = None,
):
    """Pack images, classes and captions into one file, to read them fast.

    After an interruption, the same command goes on.
    """
    from keras_simple_diffusion.data.packing import pack as pack_images

    count, broken = pack_images(data, output, image_size, encoding, num_files)
    if broken:
        say(
            f"{len(broken):,} of {count + len(broken):,} images cannot be read "
            f"and are left out: {some_of([*broken])}"
        )
    say(f"{count:,} image{'s are' if count != 1 else ' is'} in {output}.")
    at = f" --image-size {image_size}" if image_size else ""
    say(f"Train: keras-simple-diffusion train --data {output}{at}")
