"""The command `presets`."""

import json
import shutil
import textwrap
from typing import Annotated

import typer

from keras_simple_diffusion.utils.presets import builtin_presets
from keras_simple_diffusion.utils.presets import has_weights
from keras_simple_diffusion.utils.presets import preset_folder
from keras_simple_diffusion.utils.presets import read_json

# Floating-point operations that a machine does in the longest training that it
# is used for: a CPU of 50 GFLOP/s in a day, a GPU of 200 TFLOP/s in a week.
_BUDGETS = {"a CPU": 50e9 * 86400, "one GPU": 200e12 * 7 * 86400}
_LARGEST = "a pod"


def presets(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of all facts.")
    ] = False,
):
    """List the built-in presets, the smallest first."""
    facts = [_describe(name) for name in builtin_presets()]
    # Variants for other image sizes differ by a few parameters.
    facts.sort(key=lambda each: (round(each["parameters"], -6), each["name"]))
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    width = max(len(each["name"]) for each in facts)
    row = f"{{:{width}}}  {{:>10}}  {{:9}}  {{}}"
    typer.echo(row.format("preset", "parameters", "trains on", "weights"))
    columns = shutil.get_terminal_size().columns
    for each in facts:
        line = row.format(
            each["name"],
            f"{each['parameters'] / 1e6:,.1f} M",
            each["trains_on"],
            "yes" if each["weights"] else "no",
        )
        typer.secho(line, bold=True)
        typer.echo(
            textwrap.fill(
                each["description"],
                columns,
                initial_indent="  ",
                subsequent_indent="  ",
            )
        )


def _describe(name):
    """Return what the files of a built-in preset say, as JSON types."""
    folder = preset_folder(name)
    config = read_json(folder / "config.json")
    metadata = read_json(folder / "metadata.json")
    recipe = read_json(folder / "recipe.json")
    # A training step costs three forward passes, each multiplication-addition
    # two operations.
    operations = 6 * metadata["macs"] * recipe["steps"] * recipe["batch_size"]
    return {
        "name": name,
        "description": metadata["description"],
        "network": config["class_name"],
        "image_shape": config["config"]["image_shape"],
        "parameters": metadata["parameter_count"],
        "macs": metadata["macs"],
        "steps": recipe["steps"],
        "batch_size": recipe["batch_size"],
        "trains_on": next(
            (name for name, n in _BUDGETS.items() if operations <= n), _LARGEST
        ),
        "weights": has_weights(folder),
    }
