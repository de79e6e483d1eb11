"""Checkpoints of JiT, with the names and shapes of the published files."""

import argparse
import os
import pickle

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import keras_simple_diffusion as ksd
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command
from tests.reference import torch_pixel_transformer as reference

InputError = ksd.InputError
from_jit = ksd.converters.from_jit

# Of three blocks, those after the first have tokens of the class.
SHAPES = reference.shapes_of(
    size=16,
    patch=4,
    width=16,
    depth=3,
    heads=2,
    bottleneck=5,
    classes=4,
    tokens=2,
)


def weights_with(seed):
    return {
        f"net.{name}": array
        for name, array in reference.random_weights(SHAPES, seed).items()
    }


def write_checkpoint(path, **changes):
    """Write what the authors' `save_model` does, and return the weights."""
    sets = {
        "model": weights_with(0),
        "model_ema1": weights_with(1),
        "model_ema2": weights_with(2),
    }
    content = {
        name: {key: torch.tensor(value) for key, value in each.items()}
        for name, each in sets.items()
    }
    content |= {
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}},
        "epoch": 5,
        "args": argparse.Namespace(
            model="JiT-B/4", noise_scale=0.5, P_mean=-0.6, P_std=0.7, lr=None
        ),
    }
    torch.save({**content, **changes}, path)
    return sets


def predict(model):
    inputs = {
        "noisy_images": np.random.default_rng(0)
        .normal(size=(2, 16, 16, 3))
        .astype("float32"),
        "log_snr": np.array([-2.0, 1.0], "float32"),
        "labels": np.array([1, 4], "int32"),
    }
    return model.backbone.predict_on_batch(inputs)


def expected_prediction(weights, noise_scale):
    noisy = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
    ratio = noise_scale * np.exp(np.array([-2.0, 1.0]) / 2)
    time = ratio / (1 + ratio)
    norm = np.sqrt(time**2 + (noise_scale * (1 - time)) ** 2)
    state = noisy.astype("float32") * norm[:, None, None, None]
    clean = reference.forward(
        {name.removeprefix("net."): x for name, x in weights.items()},
        state.transpose(0, 3, 1, 2),
        time,
        [1, 4],
        start=1,
        patch=4,
        heads=2,
    )
    return clean.transpose(0, 2, 3, 1)


def convert(folder, options):
    words = f"convert --output preset {options}".split()
    return run_command(*words, cwd=folder)


def test_a_checkpoint_becomes_a_preset_that_draws(tmp_path):
    sets = write_checkpoint(tmp_path / "checkpoint-last.pth")
    result = convert(tmp_path, "--from jit --weights checkpoint-last.pth")
    assert result.returncode == 0 and "preset is in preset" in result.stdout
    model = ksd.models.DiffusionModel.from_preset(str(tmp_path / "preset"))
    expected = expected_prediction(sets["model_ema1"], 0.5)
    np.testing.assert_allclose(predict(model), expected, atol=1e-5)

    # The settings of the source.
    schedule = model.schedule
    assert (schedule.mean, schedule.std) == (-1.2, 1.4)
    middle = float(schedule(0.5))
    assert middle == pytest.approx(-1.2 - 2 * np.log(0.5), abs=1e-4)
    assert model.prediction_type == "x"
    assert type(model.sampler).__name__ == "HeunSampler"
    assert model.num_steps == 50 and model.guidance_scale == 2.2
    low, high = model.guidance_interval
    # JiT guides where its time is in (0.1, 1).
    assert low == pytest.approx(2 * np.log(0.1 / 0.9 / 0.5), abs=1e-3)
    assert high > 14
    images = model.generate(labels=[0, 3], num_steps=2, seed=0)
    assert images.shape == (2, 16, 16, 3) and images.std() > 1


@pytest.mark.any_backend
def test_each_set_of_weights(tmp_path):
    path = tmp_path / "checkpoint.pth"
    sets = write_checkpoint(path)
    for ema, name in enumerate(("model", "model_ema1", "model_ema2")):
        found = from_jit(path, ema).backbone.get_layer("patch_dense").bias
        np.testing.assert_array_equal(
            found.numpy(), sets[name]["net.x_embedder.proj2.bias"]
        )
    with pytest.raises(InputError, match="no 'model_ema3', but model, model_e"):
        from_jit(path, 3)


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_safetensors(kind, tmp_path):
    path = tmp_path / "jit.safetensors"
    weights = weights_with(0)
    if kind == "bfloat16":
        tensors = {k: torch.tensor(v).bfloat16() for k, v in weights.items()}
        safetensors.torch.save_file(tensors, path)
    else:
        arrays = {k: v.astype(kind) for k, v in weights.items()}
        safetensors.numpy.save_file(arrays, path)
    model = from_jit(path)
    np.testing.assert_allclose(
        model.backbone.get_layer("output_dense").bias.numpy(),
        weights["net.final_layer.linear.bias"],
        rtol=0 if kind == "float32" else 5e-3,
    )
    # Without a command line, those of the paper.
    assert model.backbone.noise_scale == 16 / 256
    assert model.schedule.mean == -1.6
    with pytest.raises(InputError, match="holds no 'model_ema2', but a single"):
        from_jit(path, ema=2)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "change, message",
    [
        ({"blocks.1.mlp.w3.bias": None}, r"blocks.1.mlp.w3.bias are missing"),
        ({"blocks.0.more": np.zeros(3)}, r"blocks.0.more are unknown"),
        (
            {"blocks.2.attn.qkv.weight": np.zeros((48, 15))},
            r"blocks.2.attn.qkv.weight has the shape \(48, 15\), and "
            r"transformer_2/attention/qkv/kernel needs \(16, 48\)",
        ),
        ({"x_embedder.proj1.weight": np.zeros((5, 48))}, "of 4 axes"),
        ({"y_embedder.embedding_table.weight": None}, "no y_embedder"),
        ({"pos_embed": np.zeros((1, 16, 16))}, "other positions"),
        (
            {"blocks.1.norm1.weight": np.full(16, np.nan)},
            "blocks.1.norm1.weight holds NaN",
        ),
    ],
)
def test_a_file_that_does_not_fit(change, message, tmp_path):
    weights = weights_with(0)
    for name, value in change.items():
        weights[f"net.{name}"] = value
    weights = {
        name: np.asarray(value, "float32")
        for name, value in weights.items()
        if value is not None
    }
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(weights, path)
    with pytest.raises(InputError, match=message):
        from_jit(path)


class Evil:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.any_backend
def test_code_of_a_file_is_not_run(tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    write_checkpoint(path, args=Evil(mark))
    result = convert(tmp_path, "--from jit --weights evil.pth")
    assert "evil.pth" in error_line(result) and not mark.exists()
    assert not (tmp_path / "preset").exists()
    torch.load(path, weights_only=False)  # It would have.
    assert mark.exists()


@pytest.mark.any_backend
@pytest.mark.parametrize("content", [b"", b"no tensors", pickle.dumps([1])])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_other_files(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        from_jit(tmp_path / name)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options, message",
    [
        ("--from jit", "needs either --from and --weights, or --to and"),
        ("--from jit --weights a.pth --to safetensors --model b", "either"),
        ("--to safetensors --weights a", "either"),
        ("--to safetensors --model emoji --ema 1", "`--ema` is for"),
        ("--from jit --weights missing.pth", "no file 'missing.pth'"),
    ],
)
def test_options(options, message, tmp_path):
    assert message in error_line(convert(tmp_path, options))
