"""Settings that do not suit the size of the images are warned of."""

import warnings

import pytest

import keras_simple_diffusion as ksd

losses, schedules = ksd.losses, ksd.schedules


def model_of(size, **kwargs):
    backbone = ksd.models.UViTBackbone(
        (size, size, 1), (8, 8), (1, 1), num_heads=1, embedding_dim=8
    )
    return ksd.models.DiffusionModel(backbone, compile=False, **kwargs)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "size, arguments, message",
    [
        (
            16,
            {"schedule": schedules.ShiftedCosineSchedule(64)},
            r"images of 64 pixels.* have 16.*Schedule\(image_size=16",
        ),
        (
            16,
            {"schedule": schedules.InterpolatedCosineSchedule((32, 48))},
            r"images of 32 pixels.*InterpolatedCosineSchedule",
        ),
        (
            128,
            {"schedule": schedules.CosineSchedule()},
            r"ShiftedCosineSchedule\(128, noise_size=64\)",
        ),
        (16, {"loss": losses.DiffusionLoss(base_size=32)}, "base_size=32 "),
        (
            16,
            {
                "loss": losses.DiffusionLoss(
                    weighting=losses.SigmoidWeighting(-3.0)
                )
            },
            "bias=-3.*16 pixels: bias=0",
        ),
        (
            384,
            {
                "loss": losses.DiffusionLoss(
                    weighting=losses.SigmoidWeighting(1.0)
                )
            },
            "384 pixels: bias=-2.17",
        ),
        (
            16,
            {
                "schedule": "normal",
                "loss": losses.DiffusionLoss(
                    weighting=losses.SigmoidWeighting(0.0)
                ),
            },
            "SigmoidWeighting divides.*tails of NormalSchedule",
        ),
    ],
)
def test_unusual_settings_are_warned_of_once(size, arguments, message):
    with pytest.warns(
        ksd.models.UnusualSettingWarning, match=message
    ) as record:
        model_of(size, **arguments)
    assert len(record) == 1
    assert record[0].filename == __file__


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "size, arguments",
    [
        (16, {}),
        (128, {}),
        (16, {"schedule": schedules.CosineSchedule()}),
        (128, {"schedule": schedules.ShiftedCosineSchedule((128, 160))}),
        (
            16,
            {
                "schedule": "normal",
                "loss": losses.DiffusionLoss(weighting=losses.FlowWeighting()),
            },
        ),
        (64, {"loss": losses.DiffusionLoss("v", base_size=32)}),
        (
            256,
            {
                "loss": losses.DiffusionLoss(
                    weighting=losses.SigmoidWeighting(-1.0)
                )
            },
        ),
    ],
)
def test_usual_settings_are_not(size, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_of(size, **arguments)
