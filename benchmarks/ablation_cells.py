"""Cells of `ablations.py`: tables 2 to 6 of the paper, and two further ones.

Each table changes one setting of a base model. The base is a U-ViT that works
at 16 pixels behind a wavelet of two levels (for 64 pixels) or three levels (for
128 pixels, with a shifted schedule). Blocks that input downsampling saves at
high resolution are moved to lower levels, as in the paper.
"""

import dataclasses

import keras_simple_diffusion as ksd

SAMPLING_STEPS = 16
Shifted = ksd.schedules.ShiftedCosineSchedule
_LOG_SNR_MAX = 4.0  # Less noise is below the 8-bit quantization.
_UVIT = {
    "channels": (64, 128),
    "blocks": (1, 3),
    "embedding_dim": 128,
    "dropout": 0.1,
    "downsampling": "dwt",
    "downsampling_factor": 4,
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training: images, network, schedule and loss."""

    few: bool = False  # Images.
    image_size: int = 64
    backbone: str = "UViTBackbone"
    network: dict = dataclasses.field(default_factory=lambda: _UVIT)
    schedule: object = Shifted(64, noise_size=64, log_snr_max=_LOG_SNR_MAX)
    loss: object = ksd.losses.DiffusionLoss("v")

    def make_model(self):
        """A `DiffusionModel` with new weights."""
        shape = (self.image_size, self.image_size, 3)
        backbone = getattr(ksd.models, self.backbone)(shape, **self.network)
        return ksd.models.DiffusionModel(
            backbone,
            self.schedule,
            self.loss,
            prediction_type="x",
            num_steps=SAMPLING_STEPS,
        )


def _shifted(noise_size):
    return Shifted(128, noise_size=noise_size, log_snr_max=_LOG_SNR_MAX)


_BASE = Cell()
_BASE_128 = Cell(
    image_size=128,
    network={**_UVIT, "downsampling_factor": 8},
    schedule=_shifted(32),
)
# Begins at 32 pixels; dropout may start there, at 16 or at 8.
_FROM_32 = {
    "channels": (32, 64, 128),
    "blocks": (1, 1, 3),
    "downsampling_factor": 2,
}


def _change(base=_BASE, backbone="UViTBackbone", few=False, **changes):
    network = {**base.network, **changes}
    return dataclasses.replace(
        base, backbone=backbone, few=few, network=network
    )


CELLS = {
    "base_64": _BASE,
    "base_128": _BASE_128,
    **{
        f"shift_{size}": dataclasses.replace(_BASE_128, schedule=_shifted(size))
        for size in (128, 64, 16)
    },
    "interpolated": dataclasses.replace(
        _BASE_128,
        schedule=ksd.schedules.InterpolatedCosineSchedule(
            128, 32, 128, log_snr_max=_LOG_SNR_MAX
        ),
    ),
    "no_dropout": _change(few=True, **_FROM_32, dropout=0.0),
    **{
        f"dropout_{size}": _change(few=True, **_FROM_32, dropout_max_size=size)
        for size in (32, 16, 8)
    },
    **{f"blocks_{n}": _change(blocks=(1, n)) for n in (1, 6, 12)},
    "no_downsampling": _change(
        downsampling=None,
        channels=(16, 32, 64, 128),
        blocks=(1, 1, 1, 2),
    ),
    "dwt_1": _change(**_FROM_32),
    "conv_2": _change(**_FROM_32, downsampling="conv"),
    "conv_4": _change(downsampling="conv"),
    "multiscale": dataclasses.replace(
        _BASE_128, loss=ksd.losses.DiffusionLoss("v", base_size=32)
    ),
    "epsilon": dataclasses.replace(
        _BASE, loss=ksd.losses.DiffusionLoss("epsilon")
    ),
    "sigmoid": dataclasses.replace(
        _BASE,
        loss=ksd.losses.DiffusionLoss(
            "epsilon", weighting=ksd.losses.SigmoidWeighting(bias=0.0)
        ),
    ),
    "unet": _change(
        backbone="UNetBackbone",
        channels=(48, 80),
        blocks=(1, 2),
        attention_levels=(-1,),
    ),
    "residual_uvit": _change(backbone="ResidualUViTBackbone", up_blocks=(2,)),
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of label, cell and the paper's FID (train, eval) or `None`.

    The other rows are compared with the first.
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
        "Where dropout starts, with 50 training images",
        "table 3, U-Net, ImageNet 128; here the network begins at 32 pixels",
        (
            ("none", "no_dropout", (3.74, 3.91)),
            ("everywhere", "dropout_32", (3.19, 3.85)),
            ("from 16 pixels", "dropout_16", (2.27, 2.85)),
            ("from 8 pixels", "dropout_8", (2.31, 2.87)),
        ),
    ),
    "blocks": Table(
        "Blocks at the lowest resolution",
        "table 4, U-Net, ImageNet 128; 2 + 3, 4 + 5, 8 + 9 and 12 + 13",
        (
            ("1", "blocks_1", (3.42, 3.59)),
            ("3", "base_64", (2.98, 3.29)),
            ("6", "blocks_6", (2.46, 3.00)),
            ("12", "blocks_12", (2.41, 3.03)),
        ),
    ),
    "input": Table(
        "Input downsampling",
        "table 5, U-Net, ImageNet 512",
        (
            ("none", "no_downsampling", (5.60, 5.23)),
            ("DWT-1", "dwt_1", (5.42, 4.97)),
            ("DWT-2", "base_64", (4.85, 4.58)),
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
            ("error in v", "base_64", None),
            ("error in epsilon", "epsilon", None),
            ("sigmoid weighting", "sigmoid", None),
        ),
    ),
    "network": Table(
        "Network, at equal multiply-accumulates",
        "no table at equal cost",
        (
            ("U-ViT", "base_64", None),
            ("U-Net", "unet", None),
            ("residual U-ViT", "residual_uvit", None),
        ),
    ),
}
