"""A guidance model that belongs to an unconditional model."""

import json
import shutil

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion import InputError
from keras_simple_diffusion.models.content import model_digest
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import randomize

DRAW = {"num_images": 2, "seed": 3}


def make(seed, **options):
    model = make_model(None, num_steps=3, **options)
    randomize(model.backbone, seed)
    return model


@pytest.fixture
def weak():
    return make(1, prediction_type="x")


@pytest.fixture
def model(weak):
    return make(0, guidance_model=weak, guidance_scale=2.0)


def images_of(model, **options):
    return model.generate(**DRAW, **options).astype(int)


def assert_same_images(model, other, **options):
    found, expected = images_of(model, **options), images_of(other, **options)
    assert np.abs(found - expected).max() <= 1
    assert expected.std() > 5


def test_it_is_the_default_of_generate(model, weak):
    plain = make(0)
    guided = images_of(plain, guidance_model=weak, guidance_scale=2.0)
    np.testing.assert_array_equal(images_of(model), guided)
    alone = images_of(plain)
    np.testing.assert_array_equal(images_of(model, guidance_scale=1.0), alone)
    assert np.abs(guided - alone).max() > 5
    # Another model takes its place.
    same = images_of(model, guidance_model=plain)
    assert np.abs(same - alone).max() <= 1


def test_it_is_never_trained(model, weak):
    before = [w.copy() for w in weak.backbone.get_weights()]
    size = len(model.weights)
    model.fit(make_data()["images"], batch_size=8, epochs=1, verbose=0)
    for value, expected in zip(
        weak.backbone.get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    assert len(model.weights) == size == len(model.backbone.weights)


def test_presets_hold_it(model, weak, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    loaded = ksd.models.DiffusionModel.from_preset(tmp_path / "preset")
    assert loaded.guidance_scale == 2.0
    assert loaded.guidance_model.prediction_type == "x"
    assert_same_images(loaded, model)
    assert model_digest(loaded) == model_digest(model)
    # In another policy both networks compute.
    half = ksd.models.DiffusionModel.from_preset(
        tmp_path / "preset", dtype="mixed_bfloat16"
    )
    for each in half, half.guidance_model:
        assert each.backbone.compute_dtype == "bfloat16"
    assert np.abs(images_of(half) - images_of(model)).mean() < 10


def test_without_weights_there_is_none(model, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    fresh = ksd.models.DiffusionModel.from_preset(
        tmp_path / "preset", load_weights=False
    )
    assert fresh.guidance_model is None
    assert fresh.guidance_scale == 1.0


def test_a_preset_without_its_weights(model, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    (tmp_path / "preset" / "task.weights.h5").unlink()
    with pytest.raises(InputError, match=r"no task\.weights\.h5.* guidance"):
        ksd.models.DiffusionModel.from_preset(tmp_path / "preset")


def test_files_of_keras_and_safetensors_hold_it(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_images(loaded, model)
    ksd.converters.to_safetensors(model, tmp_path / "files")
    loaded = ksd.converters.from_safetensors(tmp_path / "files")
    assert_same_images(loaded, model)


def test_it_is_part_of_the_digest(model, weak):
    before = model_digest(model)
    weight = weak.backbone.weights[0]
    weight.assign(weight + 1.0)
    assert model_digest(model) != before


def test_a_model_of_classes_has_its_own(weak):
    with pytest.raises(InputError, match="guided by its own prediction"):
        make_model(3, guidance_model=weak)


def test_it_must_draw_the_same_images(model):
    other = make_model(None, backbone={"image_shape": (8, 8, 1)})
    with pytest.raises(InputError, match="must have the image_shape"):
        model.guidance_model = other
    with pytest.raises(InputError, match="must be a DiffusionModel"):
        model.guidance_model = "weak"


@pytest.mark.any_backend
def test_students_learn_the_guided_prediction(model, weak):
    method = ksd.distillation.ProgressiveDistillation(model, num_steps=2)
    batch = method.noisy_batch({"images": np.zeros((2, 4, 4, 1), "float32")})
    noisy, log_snr = batch.noisy_images, batch.log_snr
    guided, alone = map(
        keras.ops.convert_to_numpy, method.ask_teacher(noisy, log_snr, {})
    )
    strong, other = (
        keras.ops.convert_to_numpy(
            ksd.ops.convert_prediction(
                each.backbone({"noisy_images": noisy, "log_snr": log_snr}),
                noisy,
                log_snr,
                each.prediction_type,
                "x",
            )
        )
        for each in (model, weak)
    )
    np.testing.assert_allclose(alone, strong, rtol=1e-4, atol=1e-4)
    expected = other + 2.0 * (strong - other)
    np.testing.assert_allclose(guided, expected, rtol=1e-4, atol=1e-4)
    method.fit(make_data()["images"], batch_size=8, epochs=1, verbose=0)
    student = method.finished_model()
    assert student.guidance_scale == 1.0
    for value, kept in zip(
        weak.backbone.get_weights(),
        student.guidance_model.backbone.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(value, kept)
    with pytest.raises(InputError, match="beside a class or a text"):
        ksd.distillation.ProgressiveDistillation(
            model, num_steps=2, guidance_scale=(1.0, 3.0)
        )


@pytest.mark.any_backend
def test_older_presets_have_none(model, tmp_path):
    make(0).save_to_preset(tmp_path / "preset")
    task = json.loads((tmp_path / "preset" / "task.json").read_text())
    assert "guidance_model" not in task["config"]
    assert not (tmp_path / "preset" / "task.weights.h5").exists()
    # A preset that gains one and is written again without it loses the file.
    shutil.copytree(tmp_path / "preset", tmp_path / "again")
    model.save_to_preset(tmp_path / "again")
    make(0).save_to_preset(tmp_path / "again")
    assert not (tmp_path / "again" / "task.weights.h5").exists()
