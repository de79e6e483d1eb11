"""Commands about presets: list them, make one, embed captions for one."""

import pathlib
from typing import Annotated

import typer
from rich import console
from rich import table

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import check_is_free
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import locked_folder
from keras_simple_diffusion.utils.files import new_folder
from keras_simple_diffusion.utils.presets import WEIGHT_FILES
from keras_simple_diffusion.utils.presets import builtin_presets
from keras_simple_diffusion.utils.presets import has_weights
from keras_simple_diffusion.utils.presets import preset_folder
from keras_simple_diffusion.utils.presets import read_json


def presets():
    """List the built-in presets, with parameters and cost."""
    listing = table.Table(
        box=None, header_style="bold", padding=(0, 2, 0, 0), show_edge=False
    )
    # Names are never cut; the description takes the remaining width.
    listing.add_column("preset", no_wrap=True)
    listing.add_column("description and size")
    for name in builtin_presets():
        folder = preset_folder(name)
        config = read_json(folder / "config.json")
        metadata = read_json(folder / "metadata.json")
        facts = [
            config["class_name"].removesuffix("Backbone"),
            " x ".join(str(n) for n in config["config"]["image_shape"]),
            f"{metadata['parameter_count'] / 1e6:,.1f} M parameters",
            f"{metadata['macs'] / 1e9:,.2f} GMACs",
        ]
        if has_weights(folder):
            facts.append("with weights")
        listing.add_row(name, metadata.get("description", ""))
        listing.add_row("", ", ".join(facts), style="dim")
    console.Console().print(listing)


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
    print(
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
):
    """Embed captions once, for `train --embeddings`."""
    check_backend()
    from keras_simple_diffusion.training import embed_data

    cache = embed_data(data, preset, output, batch_size)
    print(f"The embeddings of {len(cache.texts)} texts are in {output}")
