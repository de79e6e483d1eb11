"""Compute the share of each built-in configuration that one device holds.

    python benchmarks/layout_shares.py      # prints a table, for the docs

For each strategy on 8 and on 64 devices, the largest share of the weights,
Adam's two moments and the average that a device has; with `data` it is all of
them. Networks are built on
PyTorch's meta device and laid out by the layouts that JAX uses; nothing takes
memory.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import math  # noqa: E402

import keras  # noqa: E402

import keras_simple_diffusion as ksd  # noqa: E402
from keras_simple_diffusion.utils import presets  # noqa: E402

# A float32 weight, its two moments and its average, which are laid out alike.
BYTES = 4 * 4
COUNTS = (8, 64)
GROUP_SIZE = 4


def build(name):
    with keras.device("meta"):
        return ksd.models.DiffusionBackbone.from_preset(
            name, load_weights=False
        )


def distributions(backbone, count):
    """The strategies that split weights, by name, on so many devices."""
    devices = [f"cpu:{i}" for i in range(count)]
    mesh = keras.distribution.DeviceMesh(
        (count // GROUP_SIZE, GROUP_SIZE), ("batch", "model"), devices
    )
    return {
        "sharded": ksd.distribution.FullySharded(devices=devices),
        f"tensor:{GROUP_SIZE}": keras.distribution.ModelParallel(
            layout_map=backbone.get_layout_map(mesh)
        ),
    }


def size_on_a_device(variable, distribution):
    """Number of elements of a variable that each device holds."""
    layout = distribution.get_variable_layout(variable)
    mesh = dict(
        zip(
            layout.device_mesh.axis_names, layout.device_mesh.shape, strict=True
        )
    )
    sizes = []
    for size, axis in zip(variable.shape, layout.axes, strict=True):
        parts = mesh.get(axis, 1)
        if size % parts:
            raise ValueError(
                f"{variable.path} of shape {variable.shape} cannot be split "
                f"as {layout.axes} on {mesh}."
            )
        sizes.append(size // parts)
    return math.prod(sizes)


def share(backbone, distribution):
    """Share of the training state that one device holds."""
    held = sum(size_on_a_device(v, distribution) for v in backbone.variables)
    return held / backbone.count_params()


def main():
    names = ("sharded", f"tensor:{GROUP_SIZE}")
    headings = ["configuration", "data (GB)"]
    headings += [f"{name} on {n}" for n in COUNTS for name in names]
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for preset in presets.builtin_presets():
        backbone = build(preset)
        state = BYTES * backbone.count_params() / 1e9
        row = [preset, f"{state:,.2f}"]
        for count in COUNTS:
            for distribution in distributions(backbone, count).values():
                value = share(backbone, distribution)
                row.append(f"{value:.2%}, {value * state:,.2f} GB")
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
