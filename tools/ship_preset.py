"""Put the model of a finished run into the package, in half precision.

    python tools/ship_preset.py --run runs/emoji --name emoji \
        --description "Emoji of 64 px by name."

The preset holds the run's averaged weights as float16, with the network,
schedule and recipe that made them; loading brings them back to float32, and
the network is computed in the user's precision, whatever the run's was. The
model that guides a finetuned one is left out: it would double the preset.
"""

import argparse
import csv
import json
import pathlib
import shutil
import tempfile

import h5py
import numpy as np

from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.utils import presets


def halve(source, target):
    """Copy an HDF5 file of weights, with float16 for float32."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        new.attrs.update(old.attrs)

        def copy(name, item):
            if isinstance(item, h5py.Group):
                new.require_group(name).attrs.update(item.attrs)
                return
            values = item[()]
            if values.dtype == np.float32:
                values = values.astype(np.float16)
                if not np.isfinite(values).all():
                    raise ValueError(f"{name} does not fit into float16")
            new.create_dataset(name, data=values).attrs.update(item.attrs)

        old.visititems(copy)


def forget_policies(content):
    """The same JSON without the dtype policies of the run.

    A dtype that is a plain string was chosen for good, such as that of a
    pretrained text encoder.
    """
    if isinstance(content, list):
        return [forget_policies(item) for item in content]
    if isinstance(content, dict):
        return {
            key: forget_policies(value)
            for key, value in content.items()
            if key != "dtype" or isinstance(value, str)
        }
    return content


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--description", required=True)
    parser.add_argument("--guidance", type=float, help="scale to store")
    parser.add_argument("--teacher", help="preset that it was distilled from")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    output = args.output or presets.preset_folder(args.name)
    output.mkdir(parents=True, exist_ok=True)
    model = Preset.open(args.run).load()
    if model.guidance_model is not None:
        model.guidance_model = None
    if args.guidance is not None:
        model.guidance_scale = args.guidance
    with tempfile.TemporaryDirectory() as folder:
        model.save_to_preset(folder)
        for path in pathlib.Path(folder).iterdir():
            if path.suffix == ".h5":
                halve(path, output / path.name)
            elif path.suffix == ".json":
                content = forget_policies(json.loads(path.read_text()))
                (output / path.name).write_text(json.dumps(content, indent=2))
            else:
                shutil.copy(path, output)
    settings = json.loads((args.run / "config.json").read_text())
    with (args.run / "history.csv").open() as file:
        steps = max(int(row["step"]) for row in csv.DictReader(file))
    recipe = json.dumps({**settings["recipe"], "steps": steps}, indent=2)
    (output / "recipe.json").write_text(recipe + "\n")
    preset = Preset.open(output)
    macs = count_macs(preset.load().backbone)
    metadata = dict(preset.metadata)
    metadata["description"] = args.description
    metadata["macs"] = sum(macs.values())
    if args.teacher:
        metadata["teacher"] = args.teacher
    (output / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


if __name__ == "__main__":
    main()
