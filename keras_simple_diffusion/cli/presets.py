from rich import console
from rich import table

from keras_simple_diffusion.utils.presets import builtin_presets
from keras_simple_diffusion.utils.presets import has_weights
from keras_simple_diffusion.utils.presets import preset_folder
from keras_simple_diffusion.utils.presets import read_json


def presets():
    """List the built-in presets."""
    listing = table.Table(box=None, header_style="bold")
    for heading in (
        "preset",
        "network",
        "images",
        "parameters",
        "cost",
        "weights",
    ):
        right = "right" if heading in ("parameters", "cost") else "left"
        listing.add_column(heading, justify=right, no_wrap=True)
    listing.add_column("description")
    for name in builtin_presets():
        folder = preset_folder(name)
        config = read_json(folder, "config.json")
        metadata = read_json(folder, "metadata.json")
        listing.add_row(
            name,
            config["class_name"].removesuffix("Backbone"),
            "x".join(str(n) for n in config["config"]["image_shape"]),
            f"{metadata['parameter_count'] / 1e6:,.1f} M",
            f"{metadata['macs'] / 1e9:,.2f} GMACs",
            "yes" if has_weights(folder) else "no",
            metadata.get("description", ""),
        )
    console.Console().print(listing)
