"""Exported folders draw the images that the models draw.

Keras exports from TensorFlow; what it needs is installed by `make test-export`.
"""

import dataclasses
import json
import re
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.export import draw
from keras_simple_diffusion.export.formats import FORMATS
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.text.text_transformer import WORDS
from tests.helpers.commands import run_command
from tests.helpers.models import make_backbone
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import make_transformer
from tests.helpers.models import randomize

TEXTS = ["a red cat", "two dogs!"]
on_tensorflow = pytest.mark.any_backend(on="tensorflow")


def class_model():
    model = make_model(
        num_steps=3, guidance_scale=2.0, class_names=["a", "b", "c"]
    )
    randomize(model.backbone)
    return model, {"labels": ["c", 0]}, ["c", "0"]


def transformer_model():
    model = make_model(
        backbone=make_transformer(),
        schedule=ksd.schedules.NormalSchedule(image_size=4, noise_size=8),
        prediction_type="x",
        sampler="ddim",
        num_steps=4,
        guidance_scale=2.0,
        guidance_interval=(-3.0, 9.0),
    )
    randomize(model.backbone)
    return model, {"labels": [0, 2]}, ["0", "2"]


def text_model():
    backbone = make_backbone(None, context_dim=8, portrait_flag=True)
    model = ksd.models.TextToImage(
        randomize(backbone),
        randomize(make_text_encoder(TEXTS), scale=0.5),
        prediction_type="x",
        sampler="dpm",
        num_steps=4,
        guidance_scale=1.5,
    )
    return model, {"prompts": TEXTS}, TEXTS


def student():
    model = make_model(
        backbone={"guidance_range": (1.0, 4.0)},
        sampler="ddim",
        num_steps=2,
        distilled_steps=2,
        guidance_scale=3.0,
    )
    randomize(model.backbone)
    return model, {"labels": [1, 2]}, ["1", "2"]


def model_without_conditions():
    # Division by alpha shows if it is exact at a low log-SNR.
    model = make_model(
        None, prediction_type="epsilon", sampler="ddim:eta=0.5", num_steps=3
    )
    randomize(model.backbone)
    return model, {"num_images": 2}, []


def guided_model():
    weak = make_model(None, prediction_type="x")
    randomize(weak.backbone, seed=1)
    model = make_model(
        None, guidance_model=weak, guidance_scale=2.0, num_steps=3
    )
    randomize(model.backbone)
    return model, {"num_images": 2}, []


def noise_of(seed, shape, count):
    """Return the noise that `generate` draws for two images."""
    key = ops.convert_to_tensor(random.seed_to_key(seed), "int32")
    keys = random.image_keys(key, ops.arange(2, dtype="int32"))
    draws = [random.normal(keys, i, shape) for i in range(count)]
    return np.stack([ops.convert_to_numpy(each) for each in draws])


def check_same_images(model, conditions, words, folder, **options):
    images = model.generate(**conditions, seed=5, **options)
    exported = draw.ExportedModel(folder)
    count = exported.settings["num_noises"]
    noise = noise_of(5, model.backbone.image_shape, count)
    found = exported.draw(words, noise=noise)
    assert found.dtype == "uint8"
    difference = np.abs(found.astype(int) - images.astype(int))
    assert difference.max() <= 1
    assert images.std() > 10  # Not all black.
    # Another number of images.
    (one,) = exported.draw(words[:1], noise=noise[:, :1])
    assert np.abs(one.astype(int) - images[0].astype(int)).max() <= 1


def load_packages(*names):
    """Skip the test where a model cannot be exported."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("Keras exports from TensorFlow: make test-export")
    for name in names:
        pytest.importorskip(name, reason=f"needs {name}: make test-export")


@on_tensorflow
@pytest.mark.parametrize(
    "make",
    [
        class_model,
        transformer_model,
        text_model,
        student,
        model_without_conditions,
        guided_model,
    ],
)
def test_onnx_draws_the_same_images(make, tmp_path):
    load_packages("tf2onnx", "onnxruntime")
    model, conditions, words = make()
    difference = ksd.export.export_model(model, tmp_path / "out")
    assert difference < 1e-4 or make is model_without_conditions
    check_same_images(model, conditions, words, tmp_path / "out")


@on_tensorflow
@pytest.mark.parametrize(
    "format, package", [("openvino", "openvino"), ("saved_model", "tensorflow")]
)
def test_other_formats_draw_the_same_images(format, package, tmp_path):
    load_packages(package)
    model, conditions, words = text_model()
    folder = tmp_path / "out"
    difference = ksd.export.export_model(model, folder, format=format)
    assert difference < 1e-4
    check_same_images(model, conditions, words, folder)


@on_tensorflow
def test_averages_and_options_are_exported(tmp_path):
    load_packages("tf2onnx", "onnxruntime")
    model = make_model(learning_rate=3e-2)
    model.fit(make_data(), batch_size=8, epochs=2, verbose=0)
    options = {
        "num_steps": 5,
        "guidance_scale": 3.0,
        "guidance_interval": (-4.0, 2.0),
        "sampler": "dpm:stochastic=true",
    }
    folder = tmp_path / "out"
    folder.mkdir()  # An empty folder is as good as a new one.
    ksd.export.export_model(model, folder, **options)
    settings = json.loads((folder / "model.json").read_text("utf-8"))
    assert {step["guided"] for step in settings["steps"]} == {True, False}
    labels = {"labels": [2, 1]}
    check_same_images(model, labels, ["2", "1"], folder, **options)


@on_tensorflow
@pytest.mark.parametrize(
    "format, precision, file",
    [
        ("onnx", "float16", "denoiser.onnx"),
        ("openvino", "float16", "denoiser.bin"),
        ("openvino", "bfloat16", "denoiser.bin"),
    ],
)
def test_half_of_the_bits(format, precision, file, tmp_path):
    load_packages("tf2onnx", "onnxruntime", "openvino")
    model = make_model(backbone={"channels": (64,), "embedding_dim": 64})
    randomize(model.backbone)
    folder = tmp_path / "out"
    difference = ksd.export.export_model(
        model, folder, format=format, precision=precision
    )
    size = (folder / file).stat().st_size
    assert size < 0.7 * 4 * model.backbone.count_params()
    if precision == "float16":
        assert 1e-4 < difference < 1e-2
        return
    assert 1e-4 < difference < 0.1
    # The same weights, computed with in both ways.
    images = np.random.RandomState(0).normal(size=(2, 4, 4, 1))
    inputs = {
        "images": images.astype("float32"),
        "logsnr": np.zeros(2, "float32"),
        "labels": np.arange(2, dtype="int32"),
    }
    exact, found = (
        draw.load(folder, "denoiser", each)(inputs)["clean"]
        for each in ("float32", precision)
    )
    capabilities = (
        pytest.importorskip("openvino")
        .Core()
        .get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    )
    assert (found != exact).any() == ("BF16" in capabilities)
    image = draw.ExportedModel(folder).draw(["0"], seed=0)
    assert image.std() > 10


@on_tensorflow
def test_the_command_writes_a_folder_that_runs_alone(tmp_path):
    load_packages("tf2onnx", "onnxruntime")
    model, _, _ = text_model()
    model.save_to_preset(tmp_path / "preset")
    result = run_command(
        *("export", "--model", "preset", "--output", "out", "--steps", "2"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "Largest difference" in result.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("denoiser.onnx", "text_encoder.onnx", "model.json"),
        *("draw.py", "README.md"),
    }
    words = [sys.executable, "out/draw.py", "a cat", "dogs", "--seed", "1"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with PIL.Image.open(tmp_path / "images.png") as image:
        assert image.size == (8, 4)
    (tmp_path / "readme.py").write_text(
        re.search(
            "```python\n(.*?)```",
            (tmp_path / "out" / "README.md").read_text(),
            re.DOTALL,
        )[1]
        + "assert images.shape == (1, 4, 4, 1)\n"
    )
    words = [sys.executable, "-c", "exec(open('../readme.py').read())"]
    done = subprocess.run(
        words, cwd=tmp_path / "out", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# === Without the packages ===


@pytest.mark.any_backend
def test_words_are_split_as_the_text_encoder_does():
    encoder = make_text_encoder([*TEXTS, "Éclair, naïve_2", "猫 犬"])
    texts = ["", "A red  CAT!", "cats dogs dogs dogs dogs", "éclair 猫犬 x-ray"]
    exported = object.__new__(draw.ExportedModel)
    text = {
        "words": WORDS,
        "vocabulary": encoder.vocabulary,
        "sequence_length": encoder.sequence_length,
    }
    exported.settings = {"text": text}
    expected, mask = encoder.tokenize(texts)
    found = exported.tokenize(texts)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found != 0, mask)


def test_a_backend_that_does_not_export_is_one_line(tmp_path):
    backend = keras.config.backend()
    form = dataclasses.replace(
        FORMATS["onnx"], packages=("keras",), backends=("other",)
    )
    with pytest.raises(ksd.InputError, match=f"from {backend}.*=other keras-"):
        form.check("onnx", "float32")


@pytest.mark.any_backend
def test_what_cannot_be_exported_is_one_line(tmp_path):
    form = dataclasses.replace(FORMATS["onnx"], packages=("no_such_package",))
    with pytest.raises(ksd.InputError, match="no_such_package: run pip"):
        form.check("onnx", "float32")
    with pytest.raises(ksd.InputError, match="one of float32"):
        FORMATS["saved_model"].check("saved_model", "float16")
    with pytest.raises(ksd.InputError, match="`format` must be one of"):
        ksd.export.export_model(make_model(), tmp_path / "out", format="tflite")
