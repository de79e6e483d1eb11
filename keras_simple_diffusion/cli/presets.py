from rich import console
from rich import table

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
