"""A guidance model that belongs to a model."""

import json
import shutil

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion import InputError
from keras_simple_diffusion.models.content import model_digest
from keras_simple_diffusion.models.transfer import LABELS
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import make_transformer
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


def assert_same_weights(model, other):
    for value, expected in zip(
        model.backbone.get_weights(),
        other.backbone.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(value, expected)


def test_it_is_never_trained(model, weak):
    images = make_data()["images"]
    decaying = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    model.compile(decaying, ema_decay=0.9)
    model.fit(images, batch_size=8, epochs=1, verbose=0)
    assert_same_weights(model.guidance_model, weak)
    assert len(model.weights) == len(model.backbone.weights)
    assert len(model.trainable_variables) == len(
        model.backbone.trainable_variables
    )
    assert weak.backbone not in model.layers
    averages = model.optimizer.averages_by_path()
    assert set(averages) == {w.path for w in model.trainable_variables}
    # Another one takes its place, or none, and the training goes on.
    other = make(2)
    for guide in other, None:
        model.guidance_model = guide
        model.fit(images, batch_size=8, epochs=1, verbose=0)
    assert len(model.weights) == len(model.backbone.weights)


def test_it_is_a_copy_with_averaged_weights(model, weak, tmp_path):
    weak.guidance_model = make(3)
    weak.guidance_scale = 1.5
    weak.compile(keras.optimizers.Adam(5e-3), ema_decay=0.9)
    weak.fit(make_data()["images"], batch_size=8, epochs=1, verbose=0)
    model.guidance_model = weak
    plain = {"guidance_scale": 1.0}
    assert_same_images(model.guidance_model, weak, **plain)
    assert model.guidance_model.guidance_model is None
    before = images_of(model)
    weak.fit(make_data()["images"], batch_size=8, epochs=1, verbose=0)
    np.testing.assert_array_equal(images_of(model), before)
    model.save_to_preset(tmp_path / "preset")
    loaded = ksd.models.DiffusionModel.from_preset(tmp_path / "preset")
    assert np.abs(images_of(loaded) - before).max() <= 1
    assert model_digest(loaded) == model_digest(model)
    # A model can be its own guide: then nothing changes.
    model.guidance_model = model
    alone = images_of(model, **plain)
    assert np.abs(images_of(model) - alone).max() <= 1


def test_another_one_in_the_place_of_a_presets(model, weak, tmp_path):
    load = ksd.models.DiffusionModel.from_preset
    model.save_to_preset(tmp_path / "preset")
    other = make(2)
    before = [w.copy() for w in other.backbone.get_weights()]
    loaded = load(tmp_path / "preset", guidance_model=other)
    for value, expected in zip(
        other.backbone.get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    assert_same_weights(loaded.guidance_model, other)
    assert loaded.guidance_scale == 2.0
    loaded = load(tmp_path / "preset", guidance_model=None)
    assert loaded.guidance_model is None
    assert loaded.guidance_scale == 1.0
    assert_same_weights(loaded, model)


def test_damaged_presets(model, tmp_path):
    weights = model.guidance_model.backbone.weights[0]
    weights.assign(np.full(weights.shape, np.nan))
    model.save_to_preset(tmp_path / "preset")
    with pytest.raises(InputError, match="not finite"):
        ksd.models.DiffusionModel.from_preset(tmp_path / "preset")
    path = tmp_path / "preset" / "task.json"
    task = json.loads(path.read_text())
    for wrong in "x", 5, [1], {"config": {}}:
        task["config"]["guidance_model"] = wrong
        path.write_text(json.dumps(task))
        with pytest.raises(InputError, match="cannot be loaded"):
            ksd.models.DiffusionModel.from_preset(tmp_path / "preset")


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
    assert np.abs(images_of(half) - images_of(model)).mean() < 4


def test_loading_builds_each_network_once(model, tmp_path, monkeypatch):
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    backbone = type(model.backbone)
    made, make_one = [], backbone.__init__

    def make_counted(self, *args, **kwargs):
        made.append(self)
        make_one(self, *args, **kwargs)

    monkeypatch.setattr(backbone, "__init__", make_counted)
    for load, name in (
        (ksd.models.DiffusionModel.from_preset, "preset"),
        (keras.saving.load_model, "model.keras"),
    ):
        made.clear()
        loaded = load(tmp_path / name)
        assert len(made) == 2, name
        assert_same_images(loaded, model)
    # A configuration given twice makes two guides.
    config = model.get_config()["guidance_model"]
    guides = [make(0, guidance_model=config).guidance_model for _ in "ab"]
    assert guides[0].backbone is not guides[1].backbone


def test_a_model_that_loses_it_draws_without(model, tmp_path):
    model.guidance_model = None
    assert model.guidance_scale == 1.0
    expected = images_of(make(0))
    np.testing.assert_array_equal(images_of(model), expected)
    model.save_to_preset(tmp_path / "preset")
    loaded = ksd.models.DiffusionModel.from_preset(tmp_path / "preset")
    assert np.abs(images_of(loaded) - expected).max() <= 1
    # With classes there is the prediction without one.
    model = make_model(3, guidance_scale=2.0, guidance_model=make_model(3))
    model.guidance_model = None
    assert model.guidance_scale == 2.0


@pytest.mark.filterwarnings("ignore:The noise schedule is for images of 4")
def test_it_has_the_dtype_and_size_of_a_given_network(tmp_path):
    networks = [make_transformer(None) for _ in "ab"]
    weak, strong = (make_model(None, network) for network in networks)
    strong.guidance_model = weak
    strong.save_to_preset(tmp_path / "preset")
    backbone = ksd.models.DiffusionBackbone.from_preset(
        tmp_path / "preset", image_shape=(8, 8, 1), dtype="mixed_bfloat16"
    )
    loaded = ksd.models.DiffusionModel.from_preset(
        tmp_path / "preset", backbone=backbone
    )
    guide = loaded.guidance_model.backbone
    assert guide.image_shape == (8, 8, 1)
    assert guide.compute_dtype == "bfloat16"
    # Without an override both have the global policy.
    half = ksd.models.DiffusionModel.from_preset(
        tmp_path / "preset", dtype="mixed_bfloat16"
    )
    ksd.converters.to_safetensors(half, tmp_path / "files")
    loaded = ksd.converters.from_safetensors(tmp_path / "files")
    for each in loaded, loaded.guidance_model:
        assert each.backbone.compute_dtype == "float32"


@pytest.mark.filterwarnings("ignore:The new weights come without averages")
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_weights_of_models_without_it(model, weak, tmp_path):
    plain = make(2)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model.load_weights(tmp_path / "plain.weights.h5")
    assert_same_weights(model, plain)
    assert_same_weights(model.guidance_model, weak)
    # Those of a model that has one are loaded, too.
    other = make(3, guidance_model=make(4), guidance_scale=2.0)
    other.save_weights(tmp_path / "guided.weights.h5")
    model.load_weights(tmp_path / "guided.weights.h5")
    assert_same_weights(model.guidance_model, make(4))


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
    weight = model.guidance_model.backbone.weights[0]
    weight.assign(weight + 1.0)
    assert model_digest(model) != before


def test_it_is_not_given_the_class():
    strong, weak = make_model(3, num_steps=3), make_model(3)
    randomize(strong.backbone)
    randomize(weak.backbone, seed=1)
    draw = {"labels": [0, 1, 2], "seed": 3, "guidance_scale": 2.0}
    informed = strong.generate(**draw, guidance_model=weak).astype(int)
    strong.guidance_model = weak
    found = strong.generate(**draw).astype(int)
    assert np.abs(found - informed).max() > 5
    # All classes of the other one become that of no class.
    (labels,) = (w for w in weak.backbone.weights if w.path == LABELS)
    rows = keras.ops.convert_to_numpy(labels)
    labels.assign(np.broadcast_to(rows[-1], rows.shape))
    expected = strong.generate(**draw, guidance_model=weak).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_it_must_draw_the_same_images(model):
    other = make_model(None, backbone={"image_shape": (8, 8, 1)})
    with pytest.raises(InputError, match="must have the image_shape"):
        model.guidance_model = other
    with pytest.raises(InputError, match="must be a DiffusionModel"):
        model.guidance_model = "weak"


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
    assert_same_weights(student.guidance_model, weak)
    with pytest.raises(InputError, match="beside a class or a text"):
        ksd.distillation.ProgressiveDistillation(
            model, num_steps=2, guidance_scale=(1.0, 3.0)
        )


@pytest.mark.any_backend
def test_the_guide_of_a_student_is_read_during_the_distillation():
    teacher = make_model(3, guidance_scale=2.0, guidance_model=make_model(3))
    randomize(teacher.backbone)
    randomize(teacher.guidance_model.backbone, seed=1)
    method = ksd.distillation.ConsistencyDistillation(teacher, num_steps=2)
    expected = model_digest(method.student.guidance_model)
    images, digests = [], []

    def draw(*_, **logs):
        guided = {"guidance_scale": 2.0, "num_steps": 2, "allow": True}
        images.append(method.student.generate(labels=[0], **guided))
        digests.append(model_digest(method.student.guidance_model))

    each = keras.callbacks.LambdaCallback(on_train_batch_end=draw)
    method.fit(make_data(), batch_size=8, epochs=1, verbose=0, callbacks=[each])
    assert images and set(digests) == {expected}


@pytest.mark.any_backend
def test_students_of_classes_take_the_scale():
    teacher = make_model(3, guidance_scale=2.0, guidance_model=make_model(3))
    randomize(teacher.backbone)
    randomize(teacher.guidance_model.backbone, seed=1)
    method = ksd.distillation.ProgressiveDistillation(
        teacher, num_steps=2, guidance_scale=(1.0, 3.0)
    )
    method.fit(make_data(), batch_size=8, epochs=1, verbose=0)
    student = method.finished_model()
    images = student.generate(labels=[0, 1], guidance_scale=2.5, seed=0)
    assert images.shape == (2, 4, 4, 1)
    batch = method.noisy_batch(make_data())
    noisy, log_snr = batch.noisy_images[:2], batch.log_snr[:2]
    scales = np.array([1.5, 2.5], "float32")
    given = {
        "labels": keras.ops.convert_to_tensor([0, 2], "int32"),
        "guidance_scale": keras.ops.convert_to_tensor(scales),
    }
    guided, alone = map(
        keras.ops.convert_to_numpy, method.ask_teacher(noisy, log_snr, given)
    )
    weak = teacher.guidance_model
    null = {"labels": keras.ops.convert_to_tensor([3, 3], "int32")}
    other = weak.backbone({"noisy_images": noisy, "log_snr": log_snr, **null})
    other = keras.ops.convert_to_numpy(
        ksd.ops.convert_prediction(other, noisy, log_snr, "v", "x")
    )
    expected = other + scales[:, None, None, None] * (alone - other)
    np.testing.assert_allclose(guided, expected, rtol=1e-3, atol=1e-3)


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
