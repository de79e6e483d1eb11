"""What `ablations.py` trains: tables 2 to 6 of the paper, and three more.

Each table changes one thing of a base: a U-Net with the paper's loss, and at
128 pixels its shifted schedule. The blocks that input downsampling saves at
high resolution are moved to lower levels, as in the paper.
"""

import dataclasses

import keras_simple_diffusion as ksd

SAMPLING_STEPS = 16
Shifted = ksd.schedules.ShiftedCosineSchedule
_UNET = {
    "channels": (16, 24, 48, 64),
    "blocks": (1, 1, 2, 1),
    "attention_levels": (-2, -1),
    "embedding_dim": 128,
    "dropout": 0.1,
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training: pictures, network, schedule and loss."""

    pictures: str = "imagenette"
    image_size: int = 64
    backbone: str = "UNetBackbone"
    network: dict = dataclasses.field(default_factory=lambda: _UNET)
    schedule: object = Shifted(64, noise_size=64)
    loss: object = ksd.losses.DiffusionLoss("epsilon")

    def make_model(self):
        """A `DiffusionModel` with new weights; `train` adds the classes."""
        shape = (self.image_size, self.image_size, 3)
        backbone = getattr(ksd.models, self.backbone)(shape, **self.network)
        return ksd.models.DiffusionModel(
            backbone, self.schedule, self.loss, num_steps=SAMPLING_STEPS
        )


_BASE = Cell()
_BASE_128 = Cell(
    pictures="caltech101",
    image_size=128,
    network={
        **_UNET,
        "channels": (24, 48, 64),
        "blocks": (1, 2, 1),
        "downsampling": "dwt",
        "downsampling_factor": 4,
    },
    schedule=Shifted(128, noise_size=32),
)
_FEW = dataclasses.replace(_BASE, pictures="imagenette_few")


def _unet(base=_BASE, **changes):
    return dataclasses.replace(base, network={**base.network, **changes})


def _input(kind, factor, channels, blocks):
    return _unet(
        downsampling=kind,
        downsampling_factor=factor,
        channels=channels,
        blocks=blocks,
    )


_BY_2 = ((24, 48, 64), (3, 2, 1))
_BY_4 = ((48, 64), (4, 2))
CELLS = {
    "base_64": _BASE,
    "base_128": _BASE_128,
    **{
        f"shift_{size}": dataclasses.replace(
            _BASE_128, schedule=Shifted(128, noise_size=size)
        )
        for size in (128, 64, 16)
    },
    "interpolated": dataclasses.replace(
        _BASE_128,
        schedule=ksd.schedules.InterpolatedCosineSchedule(128, 32, 128),
    ),
    "no_dropout": _unet(_FEW, dropout=0.0),
    **{
        f"dropout_{size}": _unet(_FEW, dropout_max_size=size)
        for size in (64, 32, 16)
    },
    **{f"blocks_{n}": _unet(blocks=(1, 1, n, 1)) for n in (1, 4, 8)},
    "dwt_1": _input("dwt", 2, *_BY_2),
    "dwt_2": _input("dwt", 4, *_BY_4),
    "conv_2": _input("conv", 2, *_BY_2),
    "conv_4": _input("conv", 4, *_BY_4),
    "multiscale": dataclasses.replace(
        _BASE_128, loss=ksd.losses.DiffusionLoss("epsilon", base_size=32)
    ),
    "velocity": dataclasses.replace(_BASE, loss=ksd.losses.DiffusionLoss("v")),
    "sigmoid": dataclasses.replace(
        _BASE,
        loss=ksd.losses.DiffusionLoss(
            "epsilon", weighting=ksd.losses.SigmoidWeighting(bias=0.0)
        ),
    ),
    "uvit": dataclasses.replace(
        _BASE,
        backbone="UViTBackbone",
        network={
            "channels": (16, 24, 64),
            "blocks": (1, 1, 6),
            "embedding_dim": 128,
            "dropout": 0.1,
        },
    ),
    "residual_uvit": dataclasses.replace(
        _BASE,
        backbone="ResidualUViTBackbone",
        network={
            "channels": (16, 24, 64),
            "blocks": (1, 1, 6),
            "up_blocks": (2, 2),
            "embedding_dim": 128,
            "dropout": 0.1,
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows: label, cell, and the paper's FID, train / eval, if it has one.

    The first row is what the others are compared with.
    """

    title: str
    paper: str
    rows: tuple


TABLES = {
    "schedule": Table(
        "Noise schedule",
        "table 2, U-Net, ImageNet 128",
        (
            ("cosine", "shift_128", (2.96, 3.38)),
            ("shift 64", "shift_64", (2.41, 3.03)),
            ("shift 32", "base_128", (2.26, 2.88)),
            ("shift 16", "shift_16", None),
            ("interpolated 32 to 128", "interpolated", None),
        ),
    ),
    "dropout": Table(
        "Where dropout starts, trained on few pictures",
        "table 3, U-Net, ImageNet 128",
        (
            ("none", "no_dropout", (3.74, 3.91)),
            ("from the full size down", "dropout_64", (3.19, 3.85)),
            ("from half of it", "dropout_32", (2.27, 2.85)),
            ("from a quarter", "dropout_16", (2.31, 2.87)),
        ),
    ),
    "blocks": Table(
        "Blocks at 16x16, down + up",
        "table 4, U-Net, ImageNet 128; 2 + 3, 4 + 5, 8 + 9 and 12 + 13",
        (
            ("1 + 2", "blocks_1", (3.42, 3.59)),
            ("2 + 3", "base_64", (2.98, 3.29)),
            ("4 + 5", "blocks_4", (2.46, 3.00)),
            ("8 + 9", "blocks_8", (2.41, 3.03)),
        ),
    ),
    "input": Table(
        "Input downsampling",
        "table 5, U-Net, ImageNet 512",
        (
            ("none", "base_64", (5.60, 5.23)),
            ("DWT-1", "dwt_1", (5.42, 4.97)),
            ("DWT-2", "dwt_2", (4.85, 4.58)),
            ("conv 2x2", "conv_2", (5.99, 5.33)),
            ("conv 4x4", "conv_4", (5.04, 4.80)),
        ),
    ),
    "multiscale": Table(
        "Multiscale loss",
        "table 6, ImageNet 256, where the paper finds no gain",
        (
            ("off", "base_128", (3.76, 3.71)),
            ("on", "multiscale", (4.00, 3.89)),
        ),
    ),
    "loss": Table(
        "Loss",
        "no table; v for the U-ViT, the sigmoid weighting in SiD2",
        (
            ("error in epsilon", "base_64", None),
            ("error in v", "velocity", None),
            ("sigmoid weighting", "sigmoid", None),
        ),
    ),
    "network": Table(
        "Network, at equal multiply-accumulates",
        "no table at equal cost",
        (
            ("U-Net", "base_64", None),
            ("U-ViT", "uvit", None),
            ("residual U-ViT", "residual_uvit", None),
        ),
    ),
}
