"""Measure parameters, cost and memory of every built-in configuration.

    python benchmarks/cost_table.py         # prints, and writes docs/costs.md

Networks are built on PyTorch's meta device, so their weights take no memory.
Multiply-accumulates come from the library's own counter and from PyTorch's;
activations are the tensors that PyTorch's autograd keeps for the backward pass
of one image under `mixed_bfloat16`.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import argparse  # noqa: E402
import contextlib  # noqa: E402
import pathlib  # noqa: E402
import platform  # noqa: E402

import keras  # noqa: E402
import torch  # noqa: E402
from keras.src.backend.common import global_state  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import keras_simple_diffusion as ksd  # noqa: E402
from keras_simple_diffusion.models.cost import arithmetic_intensity  # noqa: E402
from keras_simple_diffusion.models.cost import count_macs  # noqa: E402
from keras_simple_diffusion.models.cost import layer_products  # noqa: E402
from keras_simple_diffusion.utils import presets  # noqa: E402

DOCS = pathlib.Path(__file__).parents[1] / "docs" / "costs.md"
CONTEXT_LENGTH = 128
BATCH_SIZE = 32

# From the papers or from tables that quote them.
PUBLISHED_GMACS = {
    "jit_b16_imagenet_256": 25,
    "jit_b32_imagenet_512": 26,
    "jit_l16_imagenet_256": 88,
    "jit_l32_imagenet_512": 89,
    "jit_h16_imagenet_256": 182,
    "jit_h32_imagenet_512": 183,
    "jit_g16_imagenet_256": 383,
    "jit_g32_imagenet_512": 384,
    "uvit_imagenet_128": 546,
    "uvit_imagenet_256": 546,
    "uvit_imagenet_512": 546,
    "sid2_small_imagenet_128": 137.4,
    "sid2_small_imagenet_256": 137.4,
    "sid2_small_imagenet_512": 137.4,
    "sid2_flop_heavy_imagenet_256": 652.8,
    "sid2_flop_heavy_imagenet_512": 652.8,
}

BLOCKS = (
    "PixelTransformerBlock",
    "ResidualBlock",
    "SelfAttention",
    "TransformerBlock",
)

# Input downsampling at 512 pixels, with blocks moved to lower levels: the
# rows of Table 5, as overrides of `unet_imagenet_512`.
_PATCHED = {
    "channels": (128, 256, 256, 512, 1024, 1024),
    "blocks": (2, 2, 2, 4, 12, 4),
    "attention_levels": (4, 5),
    "downsampling_factor": 2,
}
TABLE_5 = {
    "none": (
        {
            "channels": (128, 128, 128, 256, 512, 1024, 1024),
            "blocks": (1, 1, 2, 2, 4, 12, 4),
            "attention_levels": (5, 6),
            "downsampling": None,
        },
        "100 %",
    ),
    "DWT-1": ({**_PATCHED, "downsampling": "dwt"}, "139 %"),
    "DWT-2": ({}, "146 %"),
    "conv 2x2": ({**_PATCHED, "downsampling": "conv"}, "137 %"),
    "conv 4x4": ({"downsampling": "conv"}, "146 %"),
}


def build(name, **overrides):
    with keras.device("meta"):
        return ksd.models.DiffusionBackbone.from_preset(
            name, load_weights=False, **overrides
        )


def zeros(backbone):
    """Make the inputs for one image on the meta device."""
    inputs = {}
    for name, tensor in backbone.input.items():
        shape = [1] + [n or CONTEXT_LENGTH for n in tensor.shape[1:]]
        dtype = torch.int32 if tensor.dtype == "int32" else torch.float32
        inputs[name] = torch.zeros(shape, dtype=dtype, device="meta")
    return inputs


def torch_macs(backbone):
    """Count forward MACs with PyTorch: matrix products and convolutions."""
    with (
        keras.device("meta"),
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        backbone(zeros(backbone))
    return counter.get_total_flops() / 2


@contextlib.contextmanager
def meta_with_gradients():
    """Keep gradients on the meta device.

    Keras detaches tensors if its device is called "meta".
    """
    before = global_state.get_global_attribute("torch_device")
    global_state.set_global_attribute("torch_device", torch.device("meta"))
    try:
        yield
    finally:
        global_state.set_global_attribute("torch_device", before)


def activation_bytes(backbone):
    """Count the bytes that autograd keeps for one image, without weights."""
    weights = {w.value.untyped_storage()._cdata for w in backbone.weights}
    # Copies of kernels, in half precision or another layout.
    kernels = {tuple(sorted(w.shape)) for w in backbone.weights}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        is_kernel = tuple(sorted(tensor.shape)) in kernels
        if storage._cdata not in weights and not is_kernel:
            kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x)
    with meta_with_gradients(), hooks:
        output = backbone(zeros(backbone), training=True)
    if not output.requires_grad:
        raise RuntimeError("Nothing was kept: the output has no gradient.")
    return sum(storage.nbytes() for storage in kept.values())


def blocks_alone(backbone):
    """Count MACs and parameters of the blocks and attention layers."""
    macs = parameters = 0
    for layer in backbone.layers:
        kind = type(layer).__name__
        if kind in BLOCKS:
            macs += layer_macs(layer)
            parameters += layer.count_params()
    return macs, parameters


def layer_macs(layer):
    """Count the MACs of one layer, without its conditioning."""
    products = layer_products(layer, CONTEXT_LENGTH)
    return sum(product.macs for product in products if product.height)


def level_text(values):
    return ", ".join(
        f"{height}: {value:.0f}"
        for height, value in sorted(values.items(), reverse=True)
        if height
    )


def table(headings, rows):
    lines = [
        "| " + " | ".join(headings) + " |",
        "|" + "|".join("---" for _ in headings) + "|",
    ]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def configurations():
    rows, costs = [], []
    for name in presets.builtin_presets():
        backbone = build(name)
        macs = sum(count_macs(backbone, CONTEXT_LENGTH).values())
        ours = macs / 1e9
        macs_alone, parameters_alone = blocks_alone(backbone)
        theirs = torch_macs(backbone) / 1e9
        published = PUBLISHED_GMACS.get(name)
        rows.append(
            (
                name,
                f"{backbone.count_params() / 1e6:,.1f}",
                f"{parameters_alone / 1e6:,.1f}",
                f"{ours:,.2f}",
                f"{theirs:,.2f}",
                f"{macs_alone / 1e9:,.1f}",
                published or "",
                f"{ours / published - 1:+.2%}" if published else "",
            )
        )
        mixed = build(name, dtype="mixed_bfloat16")
        costs.append(
            (
                name,
                f"{2 * backbone.count_params() / 1e9:,.2f}",
                f"{20 * backbone.count_params() / 1e9:,.1f}",
                f"{activation_bytes(mixed) / 1e9:,.2f}",
                level_text(
                    arithmetic_intensity(backbone, BATCH_SIZE, CONTEXT_LENGTH)
                ),
            )
        )
        print(*rows[-1], *costs[-1][1:], sep="  ", flush=True)
    return rows, costs


def table_1():
    """Compute Table 1: a 3x3 convolution on a batch of 1024 feature maps."""
    rows = []
    for size, width, published in (
        (256, 128, ("2.8 MB", "16 GB", "16 GB", "9 TFLOPs")),
        (16, 1024, ("180 MB", "0.5 GB", "0.7 GB", "2.3 TFLOPs")),
    ):
        with keras.device("meta"):
            layer = keras.layers.Conv2D(
                width, 3, padding="same", name="conv", use_bias=False
            )
            layer(keras.Input((size, size, width)))
        kernel = 20 * layer.count_params()
        feature_map = 2 * 1024 * size * size * width
        ours = (
            f"{kernel / 2**20:.1f} MB",
            f"{feature_map / 2**30:.1f} GB",
            f"{(kernel + feature_map) / 2**30:.1f} GB",
            f"{1024 * layer_macs(layer) / 2**40:.2f} TMACs",
        )
        rows.append((f"(B, {size}, {size}, {width})", "here", *ours))
        rows.append(("", "paper", *published))
    return rows


def table_5():
    rows = []
    for kind, (overrides, speed) in TABLE_5.items():
        backbone = build("unet_imagenet_512", **overrides)
        macs = sum(count_macs(backbone).values())
        mixed = build("unet_imagenet_512", dtype="mixed_bfloat16", **overrides)
        rows.append(
            (
                kind,
                f"{backbone.count_params() / 1e6:,.1f}",
                f"{macs / 1e9:,.1f}",
                f"{activation_bytes(mixed) / 1e9:,.2f}",
                speed,
            )
        )
        print(*rows[-1], sep="  ", flush=True)
    return rows


PAGE = """# Parameters, cost and memory

For those who plan a training: parameters, multiply-accumulates and memory of
each configuration.

Written by `python benchmarks/cost_table.py`, with {versions}.
The cost is that of one forward pass of one image in multiply-accumulates
(MACs), which the papers call FLOPs. A training step costs three times as
much. Texts have {context_length} tokens.

## Size and cost

{configurations}

- "MACs" counts every convolution, dense layer and attention; "by PyTorch" is
  half of what its `FlopCounterMode` counts in the same forward pass.
- "Blocks alone" excludes resampling, the first and last convolution, the
  position embeddings and the conditioning. This count equals the published
  figures in all their digits, so the whole networks cost 0.3 to 0.8 % more.
- Simple diffusion's U-ViT has "2 B" parameters in the paper and 2.5 B in later
  tables. In the published pseudocode, and here, feature modulation acts on the
  hidden layer of the MLP, which is four times as wide as the block, and takes
  0.6 B of the parameters. Applied at the width of the block it would take a
  quarter of that, which gives 2.0 B in total.
- The number of SiD2's parameters is not published; the costs imply about 0.27
  B. The blocks have this number if the modulation acts on their normalised
  input. Applied to the hidden layer it would be 0.39 B, with the same MACs.

## Memory and arithmetic intensity

{memory}

- Weights take 2 bytes (bfloat16) for generation and 20 bytes in training:
  weight, gradient, Adam's two moments and the average, all in float32.
- Activations are the measured bytes that PyTorch's autograd keeps for one image
  in a training step under `mixed_bfloat16` without rematerialisation. XLA keeps
  less where it fuses operations.
- Intensity is FLOPs for each byte moved at a batch of {batch_size}, by height
  of the feature map, or number of tokens. Every product reads its input and its
  kernel and writes its output once. An H200 needs about 180 to be fully used
  (790 TFLOP/s over 4.3 TB/s, both measured). Elementwise operations between
  products are not counted; their share is largest at the highest resolution.

## Where compute should go (Table 1)

One 3x3 convolution on a batch of 1024 feature maps. At the low resolution it
has 64 times the weights for a quarter of the compute and a twentieth of the
memory. Units are binary, activations bfloat16, weights 20 bytes.

{table_1}

## Input downsampling at 512 pixels (Table 5)

Blocks of the U-Net are moved to lower levels so that their number stays the
same. The last column is the paper's training speed; the paper's FID is best
with DWT-2.

{table_5}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=DOCS)
    args = parser.parse_args()
    rows, costs = configurations()
    page = PAGE.format(
        versions=f"Keras {keras.__version__}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}",
        context_length=CONTEXT_LENGTH,
        batch_size=BATCH_SIZE,
        configurations=table(
            (
                "configuration",
                "parameters (M)",
                "blocks alone (M)",
                "MACs (G)",
                "by PyTorch (G)",
                "blocks alone (G)",
                "published (G)",
                "difference",
            ),
            rows,
        ),
        memory=table(
            (
                "configuration",
                "weights (GB)",
                "training state (GB)",
                "activations per image (GB)",
                "intensity by level",
            ),
            costs,
        ),
        table_1=table(
            ("convolution on", "", "kernel", "feature map", "sum", "compute"),
            table_1(),
        ),
        table_5=table(
            (
                "downsampling",
                "parameters (M)",
                "MACs (G)",
                "activations per image (GB)",
                "paper: speed",
            ),
            table_5(),
        ),
    )
    args.output.write_text(page)
    print(f"written to {args.output}")


if __name__ == "__main__":
    main()
