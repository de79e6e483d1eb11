"""Estimate the cost of the papers' ImageNet trainings; write their variants.

    python benchmarks/reproduction_cost.py                  # prints the table
    python benchmarks/reproduction_cost.py --write variants # writes presets

A training step takes three times the arithmetic of a forward pass, and a
multiply-accumulate is two operations. Hours are those of one chip that spends
an assumed share of its peak on it. Networks are built without memory for their
weights (on PyTorch's meta device); those that are written need it, 4 GB each.

The rows are those of `docs/reproducing.md`.
"""

import argparse
import dataclasses
import importlib.resources
import pathlib
import shutil

from cost_table import TABLE_5
from cost_table import build
from cost_table import table

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.utils import presets

SHARE = 0.3  # Of the peak, assumed.
# Dense, FLOP/s: of training, in bfloat16; of `evaluate`, in float32, which JAX
# multiplies in bfloat16 on a TPU and in TensorFloat-32 on an H100, by default.
PEAKS = {"TPU v4": 275e12, "H100": 989e12}
DRAWING_PEAKS = {"TPU v4": 275e12, "H100": 494.5e12}
SAMPLING_STEPS = 512
# Of JiT: 50 steps of Heun's method, of which the first and the last evaluate
# the network once and all others twice, each time with and without the class.
JIT_EVALUATIONS = 2 * (2 * 50 - 2)
TEXT = ("uvit_text_256", "uvit_text_512")  # Of table 8, without T5.

Shifted = ksd.schedules.ShiftedCosineSchedule
_EPSILON = ksd.losses.DiffusionLoss("epsilon")
_MULTISCALE = ksd.losses.DiffusionLoss("epsilon", base_size=32)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A built-in configuration with something changed."""

    preset: str
    network: dict = dataclasses.field(default_factory=dict)
    task: dict = dataclasses.field(default_factory=dict)


def _schedule(size, noise_size):
    schedule = Shifted(size, noise_size=noise_size)
    return Variant(f"unet_imagenet_{size}", task={"schedule": schedule})


def _ablation(**network):
    """Make a variant of tables 3 and 4, whose noise size is 64."""
    return Variant(
        "unet_imagenet_128", network, {"schedule": Shifted(128, noise_size=64)}
    )


VARIANTS = {
    # Table 2. Shift 32 is the preset itself.
    "unet_128_cosine": _schedule(128, 128),
    "unet_128_shift_64": _schedule(128, 64),
    "unet_256_cosine": _schedule(256, 256),
    "unet_256_shift_128": _schedule(256, 128),
    "unet_256_shift_64": _schedule(256, 64),
    # Table 3. From 16 pixels down is unet_128_shift_64.
    "unet_128_dropout_none": _ablation(dropout=0.0),
    "unet_128_dropout_128": _ablation(dropout_max_size=128),
    "unet_128_dropout_64": _ablation(dropout_max_size=64),
    "unet_128_dropout_32": _ablation(dropout_max_size=32),
    # Table 4. 12 + 13 blocks is unet_128_shift_64.
    "unet_128_blocks_2": _ablation(blocks=(3, 4, 4, 2, 4)),
    "unet_128_blocks_4": _ablation(blocks=(3, 4, 4, 4, 4)),
    "unet_128_blocks_8": _ablation(blocks=(3, 4, 4, 8, 4)),
    # Table 5, without the multiscale loss. DWT-2 is "off" of table 6 as well.
    **{
        f"unet_512_{name}": Variant(
            "unet_imagenet_512", TABLE_5[row][0], {"loss": _EPSILON}
        )
        for name, row in {
            "none": "none",
            "dwt_1": "DWT-1",
            "dwt_2": "DWT-2",
            "conv_2": "conv 2x2",
            "conv_4": "conv 4x4",
        }.items()
    },
    # Table 6, on.
    "unet_256_multiscale": Variant(
        "unet_imagenet_256", task={"loss": _MULTISCALE}
    ),
}
# Steps that are not those of the configuration.
STEPS = {name: 700_000 for name in VARIANTS if "_dropout_" in name}


def write(name, folder):
    """Write a variant as a preset for `train --preset`."""
    variant = VARIANTS[name]
    backbone = ksd.models.DiffusionBackbone.from_preset(
        variant.preset, load_weights=False, **variant.network
    )
    model = ksd.models.DiffusionModel.from_preset(
        variant.preset, load_weights=False, backbone=backbone, **variant.task
    )
    target = pathlib.Path(folder) / name
    model.save_to_preset(target)
    (target / "model.weights.h5").unlink()  # Random ones; `train` has its own.
    source = importlib.resources.files(ksd) / "presets" / variant.preset
    shutil.copy(source / "recipe.json", target)


def row(name):
    """Compute a line of the table."""
    variant = VARIANTS.get(name, Variant(name))
    backbone = build(variant.preset, **variant.network)
    recipe = Recipe(**ksd.models.Preset.open(variant.preset).recipe)
    steps = STEPS.get(name, recipe.steps)
    flops = 2 * sum(count_macs(backbone).values())
    training = 3 * flops * recipe.batch_size * steps
    count = 30_000 if name in TEXT else 50_000
    is_jit = variant.preset.startswith("jit_")
    drawing = flops * count * (JIT_EVALUATIONS if is_jit else SAMPLING_STEPS)
    return (
        f"`{name}`",
        f"{flops / 2e9:,.0f}",
        f"{recipe.batch_size:,}",
        f"{steps / 1e6:g} M",
        f"{training / 1e21:.2f}",
        *(f"{hours(training, peak):,.0f}" for peak in PEAKS.values()),
        *(f"{hours(drawing, peak):,.0f}" for peak in DRAWING_PEAKS.values()),
    )


def hours(flops, peak):
    """Convert FLOPs into hours of one chip."""
    return flops / (SHARE * peak) / 3600


def papers_share():
    """Compute the share of the peak from the U-ViT's published speed."""
    flops = 6 * sum(count_macs(build("uvit_imagenet_256")).values()) * 2048
    return 1.5 * flops / (128 * PEAKS["TPU v4"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", help="folder of the variants' presets")
    parser.add_argument("--only", help="one variant, to write it alone")
    args = parser.parse_args()
    if args.write:
        for name in [args.only] if args.only else VARIANTS:
            write(name, args.write)
            print(name, flush=True)
        return
    names = [n for n in presets.builtin_presets() if "_imagenet_" in n]
    names += [*TEXT, *VARIANTS]
    headings = ["configuration", "GMACs", "batch size", "steps"]
    headings += ["training, 1e21"]
    headings += [f"training, {chip} hours" for chip in PEAKS]
    headings += [f"sampling, {chip} hours" for chip in DRAWING_PEAKS]
    print(table(headings, map(row, names)))
    print(
        f"\n1.5 steps a second of the U-ViT on 128 TPU v4, as published, are "
        f"{papers_share():.1%} of their peak."
    )


if __name__ == "__main__":
    main()
