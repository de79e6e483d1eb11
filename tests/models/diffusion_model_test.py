import inspect

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.generation.denoising import Denoiser
from keras_simple_diffusion.generation.denoising import Guidance
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.generation.programs import ProgramCache
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_backbone
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import values_of
from tests.helpers.task import run_task_test


def weights_of(model):
    return values_of(model.backbone.weights)


def assert_equal_weights(a, b, **tolerance):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, **tolerance)


GENERATE = {"labels": [0, 1, 2, 3], "num_steps": 4, "seed": 0}


# === Training ===


@pytest.mark.parametrize("num_classes", [None, 3])
def test_fit_changes_every_weight(num_classes):
    levels = {"image_shape": (4, 4, 1), "channels": (8, 16), "blocks": (1, 1)}
    model = make_model(num_classes, backbone=levels)
    before = weights_of(model)
    history = model.fit(
        make_data(num_classes=num_classes), batch_size=8, epochs=3, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    still = [
        weight.path
        for weight, old in zip(model.backbone.weights, before, strict=True)
        if np.array_equal(ops.convert_to_numpy(weight), old)
    ]
    assert all("norm_k/beta" in path for path in still), still


def test_noise_differs_between_steps():
    # A random state that does not advance would repeat the loss.
    model = make_model(learning_rate=0.0)
    data = make_data(8)
    losses = [
        float(model.train_on_batch(data, return_dict=False)) for _ in range(4)
    ]
    model.reset_metrics()
    assert len({round(loss, 5) for loss in losses}) == 4


def test_parts_are_found_by_name():
    model = make_model(
        schedule="shifted_cosine:noise_size=8",
        loss="epsilon",
        sampler="dpm:order=1",
    )
    # The image size is that of the network.
    assert model.schedule == ksd.schedules.ShiftedCosineSchedule(4, 8)
    assert model.diffusion_loss == ksd.losses.DiffusionLoss("epsilon")
    assert model.sampler == ksd.samplers.DPMSolverSampler(order=1)
    with pytest.raises(ksd.InputError, match="shifted_cosine"):
        make_model(schedule="linear")


def test_an_untrained_network_has_the_loss_of_predicting_zero():
    # v = alpha eps - sigma x, of second moment alpha^2 + sigma^2 x^2, with
    # E alpha^2 = 1 / 2 under the cosine schedule.
    model = make_model(schedule=ksd.schedules.CosineSchedule())
    data = make_data(512)
    x = data["images"] / 127.5 - 1
    expected = 0.5 + 0.5 * (x**2).mean()
    value = model.evaluate(data, batch_size=256, verbose=0)
    # 512 images of 16 pixels, times drawn at random.
    assert abs(value - expected) < 0.05


def test_evaluate_is_deterministic():
    model = make_model()
    data = make_data()
    model.fit(data, batch_size=8, epochs=2, verbose=0)
    first = model.evaluate(data, batch_size=8, verbose=0)
    model.fit(data, batch_size=8, epochs=1, verbose=0)
    changed = model.evaluate(data, batch_size=8, verbose=0)
    assert changed != first
    assert model.evaluate(data, batch_size=8, verbose=0) == changed


def test_validation_in_fit_equals_evaluate():
    model = make_model()
    data = make_data()
    history = model.fit(
        data,
        batch_size=8,
        epochs=2,
        validation_data=data,
        validation_batch_size=8,
        verbose=0,
    )
    value = model.evaluate(data, batch_size=8, verbose=0)
    assert value == pytest.approx(history.history["val_loss"][-1], rel=1e-6)


def test_uint8_and_float_images_are_the_same():
    data = make_data()
    scaled = {**data, "images": data["images"].astype("float32") / 127.5 - 1}
    model = make_model()
    assert model.evaluate(data, verbose=0) == pytest.approx(
        model.evaluate(scaled, verbose=0), rel=1e-6
    )


def test_label_dropout_hides_the_labels():
    def change_of_embedding(label_dropout):
        model = make_model(label_dropout=label_dropout)
        table = model.backbone.get_layer("conditioning").label_embedding
        before = ops.convert_to_numpy(table.embeddings).copy()
        model.fit(make_data(), batch_size=8, epochs=2, verbose=0)
        change = ops.convert_to_numpy(table.embeddings) - before
        return np.abs(change).max(axis=1) > 0

    np.testing.assert_array_equal(change_of_embedding(0.0), [1, 1, 1, 0])
    np.testing.assert_array_equal(change_of_embedding(1.0), [0, 0, 0, 1])
    np.testing.assert_array_equal(change_of_embedding(0.5), [1, 1, 1, 1])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = make_model()
    assert model.dtype_policy.name == "float32"
    assert model.backbone.dtype_policy.name == policy
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (policy == "mixed_float16")
    history = model.fit(make_data(), batch_size=8, epochs=3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    images = model.generate(**GENERATE)
    assert images.std() > 0


def test_gradient_accumulation():
    model = make_model()
    optimizer = keras.optimizers.Adam(2e-3, gradient_accumulation_steps=4)
    model.compile(optimizer, ema_decay=0.9)
    model.fit(make_data(), batch_size=4, epochs=2, verbose=0)
    averaged = model.optimizer
    assert int(ops.convert_to_numpy(averaged.iterations)) == 4
    assert int(ops.convert_to_numpy(averaged.num_averaged)) == 4


@pytest.mark.parametrize("accumulation", [None, 2])
def test_loss_scaling_is_outside_of_the_average(accumulation):
    model = make_model()
    inner = keras.optimizers.SGD(1e-3, gradient_accumulation_steps=accumulation)
    model.compile(keras.optimizers.LossScaleOptimizer(inner, 2.0**10))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.optimizer.initial_scale == 2.0**10
    average = model.optimizer.inner_optimizer
    assert isinstance(average, ksd.optimizers.AveragedOptimizer)
    assert average.inner_optimizer is inner
    model.fit(make_data(), batch_size=8, epochs=1, verbose=0)
    updates = 4 // (accumulation or 1)
    assert int(ops.convert_to_numpy(average.num_averaged)) == updates


def test_freezing_a_layer_keeps_the_other_averages():
    model = make_model()
    model.fit(make_data(), batch_size=8, epochs=1, verbose=0)
    before = ops.convert_to_numpy(model.optimizer.averages[0][-1]).copy()
    model.backbone.get_layer("conditioning").trainable = False
    model.compile(keras.optimizers.Adam(1e-3))
    after = ops.convert_to_numpy(model.optimizer.averages[0][-1])
    np.testing.assert_array_equal(after, before)
    model.fit(make_data(), batch_size=8, epochs=1, verbose=0)


def test_an_untrained_model_is_saved_and_loaded(tmp_path):
    model = make_model()
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        copy.generate(**GENERATE), model.generate(**GENERATE)
    )


def test_jit_compile():
    if keras.backend.backend() == "torch":
        pytest.skip("torch.compile takes minutes: see test_torch_compile")
    check_jit_compile()


@pytest.mark.large
def test_torch_compile():
    if keras.backend.backend() != "torch":
        pytest.skip("test_jit_compile runs on this backend")
    check_jit_compile()


def check_jit_compile():
    model = make_model()
    model.compile(keras.optimizers.Adam(2e-3), jit_compile=True)
    history = model.fit(make_data(), batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.generate(**GENERATE).shape == (4, 4, 4, 1)


# === The average of the weights ===


def test_fit_keeps_the_raw_weights_and_generate_uses_the_average():
    model = make_model(ema_decay=0.99)
    model.fit(make_data(), batch_size=8, epochs=2, verbose=0)
    raw = weights_of(model)
    averaged = model.generate(**GENERATE)
    assert_equal_weights(weights_of(model), raw, atol=0)
    with model.averaged_weights():
        inside = weights_of(model)
    assert (
        max(np.abs(a - b).max() for a, b in zip(inside, raw, strict=True))
        > 1e-4
    )
    # Drawn from the raw weights the images differ.
    model.compile(ema_decay=None)
    assert not np.array_equal(model.generate(**GENERATE), averaged)


def test_the_average_survives_fit_and_compile():
    model = make_model(ema_decay=0.99)
    data = make_data()
    for _ in range(2):
        model.fit(data, batch_size=8, epochs=2, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.num_averaged)) == 16
    images = model.generate(**GENERATE)
    model.compile(keras.optimizers.Adam(1e-4), ema_decay=0.99)
    np.testing.assert_array_equal(model.generate(**GENERATE), images)
    model.fit(data, batch_size=8, epochs=1, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.num_averaged)) == 20


# === Sampling ===


@pytest.fixture(scope="module")
def trained():
    """A trained model that tests only draw from."""
    model = make_model()
    model.fit(make_data(), batch_size=8, epochs=4, verbose=0)
    return model


def test_generate_returns_images(trained):
    model = trained
    images = model.generate(labels=[0, 1, 2], num_steps=4, seed=1)
    assert images.shape == (3, 4, 4, 1) and images.dtype == "uint8"
    assert model.generate(2, [0, 3], num_steps=1).shape == (2, 4, 4, 1)
    unconditional = make_model(num_classes=None)
    assert unconditional.generate(3, num_steps=2).shape == (3, 4, 4, 1)
    assert unconditional.generate(num_steps=2).shape == (1, 4, 4, 1)


def test_a_image_depends_on_seed_and_index_alone(trained):
    model = trained
    arguments = {"num_steps": 8, "guidance_scale": 1.5, "seed": 7}
    labels = [0, 1, 2, 0, 1]
    together = model.generate(labels=labels, **arguments).astype(int)
    in_twos = model.generate(labels=labels, batch_size=2, **arguments)
    alone = model.generate(labels=[0], **arguments)
    # Up to float rounding: at most one level, and rarely.
    assert np.abs(together - in_twos).max() <= 1
    assert (together != in_twos).mean() < 0.01
    assert np.abs(together[:1] - alone).max() <= 1
    other = model.generate(labels=labels, **{**arguments, "seed": 8})
    assert np.abs(together - other).mean() > 3


def test_steps_guidance_labels_and_seed_are_arguments(trained):
    # Changing them gives what a freshly compiled model gives.
    model = trained
    for arguments in (
        {"num_steps": 8, "labels": [0, 1], "seed": 0, "guidance_scale": 1.0},
        {"num_steps": 3, "labels": [2, 1], "seed": 4, "guidance_scale": 3.0},
        {"num_steps": 8, "labels": [1, 3], "seed": 5, "guidance_scale": 2.0},
    ):
        reused = model.generate(**arguments)
        kept, model.programs = model.programs, ProgramCache()
        np.testing.assert_array_equal(model.generate(**arguments), reused)
        model.programs = kept


def test_values_do_not_retrace(monkeypatch):
    model = make_model()
    traces = []
    step = model.sampler.step
    monkeypatch.setattr(
        model.sampler, "step", lambda *a: traces.append(1) or step(*a)
    )
    model.compile(sampler=model.sampler)
    base = {"num_steps": 4, "guidance_scale": 2.0}
    model.generate(labels=[0, 1], seed=0, **base)
    before = len(traces)
    model.generate(labels=[2, 0], seed=9, **{**base, "guidance_scale": 3.0})
    if keras.backend.backend() == "torch":  # Eager: once a step, as before.
        assert len(traces) == 2 * before
    else:
        assert len(traces) == before
        model.generate(labels=[0, 1], num_steps=5, guidance_scale=2.0)
        assert len(traces) > before


def test_guidance_extrapolates(trained):
    model = trained
    backbone = model.backbone
    rng = np.random.default_rng(0)
    z = ops.convert_to_tensor(rng.normal(size=(2, 4, 4, 1)), dtype="float32")
    log_snr = ops.convert_to_tensor(np.array([-1.0, 2.0], "float32"))

    def predict(labels):
        return ops.convert_to_numpy(
            backbone(
                {
                    "noisy_images": z,
                    "log_snr": log_snr,
                    "labels": ops.convert_to_tensor(labels, dtype="int32"),
                }
            )
        )

    conditional, unconditional = predict([0, 1]), predict([3, 3])
    assert np.abs(conditional - unconditional).max() > 1e-3
    denoiser = Denoiser(Network(backbone, "v"))
    labels, null_labels = (
        {"labels": ops.convert_to_tensor(labels, dtype="int32")}
        for labels in ([0, 1], [3, 3])
    )
    rows = {"inputs": labels, "null_inputs": null_labels}
    guided = denoiser.predict(z, log_snr, rows, Guidance(2.5).arrays())
    np.testing.assert_allclose(
        ops.convert_to_numpy(guided),
        2.5 * conditional - 1.5 * unconditional,
        atol=1e-5,
    )


def test_noise_can_be_given(trained):
    model = trained
    arguments = {**GENERATE, "sampler": ksd.samplers.DDIMSampler()}
    noise = np.random.default_rng(0).normal(size=(4, 4, 4, 1))
    noise = noise.astype("float32")
    a = model.generate(**{**arguments, "seed": 1}, noise=noise)
    b = model.generate(**{**arguments, "seed": 2}, noise=noise)
    np.testing.assert_array_equal(a, b)
    c = model.generate(**arguments, noise=noise[::-1].copy())
    assert not np.array_equal(a, c)


# === Saving ===


def test_task(tmp_path):
    model = make_model(
        class_names=["a", "b", "c"],
        schedule=ksd.schedules.ShiftedCosineSchedule(4, 8),
        loss=ksd.losses.DiffusionLoss("epsilon"),
        sampler=ksd.samplers.DDPMSampler(0.5),
        num_steps=5,
        guidance_scale=1.5,
        label_dropout=0.3,
    )
    run_task_test(model, make_data(), {"labels": ["a", "c", 3]}, tmp_path)


def test_a_backbone_preset_gives_a_model_with_defaults(tmp_path):
    make_backbone().save_to_preset(tmp_path)
    model = ksd.models.DiffusionModel.from_preset(tmp_path)
    assert model.generate(labels=[0], num_steps=2).shape == (1, 4, 4, 1)


@pytest.mark.any_backend
def test_saving_a_preset_leaves_no_draft(tmp_path, monkeypatch):
    model = make_model()
    model.save_to_preset(tmp_path / "preset")
    assert [p.name for p in tmp_path.iterdir()] == ["preset"]

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(model.backbone, "save_weights", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save_to_preset(tmp_path / "second")
    assert [p.name for p in tmp_path.iterdir()] == ["preset"]


# === Bad input ===


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": np.zeros((4, 8, 8, 1), "uint8")}, r"shape \(4, 4, 1\)"),
        ({"images": np.zeros((4, 4, 4, 3), "uint8")}, r"\(4, 4, 4, 3\)"),
        ({"images": np.zeros((4, 4, 4), "uint8")}, r"images\[\.\.\., None\]"),
        ({"images": np.zeros(4, "uint8")}, "array of four axes"),
        ({"images": 255 * np.ones((4, 4, 4, 1))}, "Divide by 127.5"),
        ({"labels": np.array([0, 1, 2, 4])}, r"in \[0, 2\], or 3 for no class"),
        ({"labels": np.array([0, 1, -1, 2])}, "Received: -1"),
        ({"labels": np.array([0.5, 1, 1, 2])}, "dtype float64"),
        ({"labels": np.array([0, 1])}, "one label per image"),
        ({"labels": [0, 1, 2, 7]}, "Received: 7"),
        ({"labels": np.zeros((4, 1), "int32")}, "must be a vector"),
        ({"images": np.full((4, 4, 4, 1), 256, "uint16")}, "in .256, 256"),
        ({"labels": None}, "has no labels"),
        ({"images": None, "pixels": 1}, "dict with"),
    ],
)
def test_bad_training_data(change, message):
    model = make_model()
    data = {**make_data(4), **change}
    data = {key: value for key, value in data.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        model.fit(data, verbose=0)


@pytest.mark.any_backend
def test_labels_for_an_unconditional_model():
    model = make_model(num_classes=None)
    with pytest.raises(ValueError, match="unconditional, yet the data has"):
        model.fit(make_data(4), verbose=0)
    with pytest.raises(ValueError, match="`labels` must be left out"):
        model.generate(labels=[1])
    with pytest.raises(ValueError, match="guidance_scale=2.0"):
        model.generate(guidance_scale=2.0)
    with pytest.raises(ValueError, match="guidance_scale=1.5"):
        make_model(num_classes=None, guidance_scale=1.5)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "pass `labels`"),
        ({"labels": [4]}, "Received: 4"),
        ({"labels": ["cat"]}, "no class named 'cat'"),
        ({"labels": [0], "num_images": 2}, "num_images=2 and 1 labels"),
        ({"labels": [], "num_images": 0}, "at least 1"),
        ({"labels": [0], "num_steps": -1}, "num_steps=-1"),
        ({"labels": [0], "num_steps": 0}, "num_steps=0"),
        ({"labels": [0], "batch_size": 0}, "batch_size=0"),
        ({"labels": [0], "noise": np.zeros((1, 8, 8, 1))}, "`noise` must"),
    ],
)
def test_bad_generate_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model().generate(**arguments)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"label_dropout": 1.5}, "label_dropout=1.5"),
        ({"class_names": ["a"]}, "Received: 1 names"),
        ({"prediction_type": "noise"}, "prediction_type='noise'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "name, wrong, right",
    [
        ("schedule", "linear", ("cosine", ksd.schedules.CosineSchedule)),
        ("sampler", "fast", ("ddim", ksd.samplers.DDIMSampler)),
        ("loss", "mse", ("epsilon", ksd.losses.DiffusionLoss)),
    ],
)
def test_parts_are_found_by_name_or_refused(name, wrong, right):
    attribute = "diffusion_loss" if name == "loss" else name
    found = ksd.models.DiffusionModel(make_backbone(), **{name: right[0]})
    assert isinstance(getattr(found, attribute), right[1])
    for value in (wrong, 3, ksd.optimizers.PowerProfile()):
        with pytest.raises(InputError):
            ksd.models.DiffusionModel(make_backbone(), **{name: value})


@pytest.mark.any_backend
def test_arguments_of_keras_that_have_no_meaning_are_refused():
    model = make_model()
    with pytest.raises(InputError, match="does not support `loss`"):
        model.compile(loss="mse")
    with pytest.raises(InputError, match="does not support `metrics`"):
        model.compile(metrics=["mae"])
    data = make_data(4)
    with pytest.raises(InputError, match="`y` is not supported"):
        model.fit(data["images"], data["labels"])
    with pytest.raises(InputError, match="`sample_weight` is not supported"):
        model.evaluate(data, sample_weight=np.ones(4))
    for method in (model.predict, model.predict_on_batch):
        with pytest.raises(InputError, match="`generate`"):
            method(data)
    with pytest.raises(InputError, match="backbone.export"):
        model.export("somewhere")


def test_validation_data_are_prepared_once():
    model, data = make_model(), make_data(16)
    # `fit` checks the first batch; its `evaluate` must not take one more.
    history = model.fit(
        data,
        epochs=1,
        validation_data=(batch for batch in [(data,)]),
        validation_steps=1,
        verbose=0,
    ).history
    assert np.isfinite(history["val_loss"]).all()
    # The loss of one batch is measured with the same noise each time.
    values = {float(model.test_on_batch(data)) for _ in range(2)}
    assert len(values) == 1


@pytest.mark.any_backend
def test_signatures_show_all_arguments():
    options = {
        *("num_steps", "guidance_scale", "seed", "batch_size", "noise"),
        *("indices", "sampler", "spacing", "guidance_interval", "clipping"),
        *("guidance_model", "guidance_rescale", "return_steps"),
    }
    for cls in (ksd.models.DiffusionModel, ksd.models.TextToImage):
        for name in ("generate", "edit", "inpaint", "upscale", "interpolate"):
            method = getattr(cls, name)
            parameters = inspect.signature(method).parameters
            assert options < set(parameters), name
            for option in options:
                assert f"            {option}: " in method.__doc__
    with pytest.raises(TypeError, match=r"generate\(\) .*num_inference_steps"):
        make_model().generate(labels=[0], num_inference_steps=2)
    model, image = make_model(), make_data(1)["images"]
    with pytest.raises(InputError, match="argument 'prompts'.* are labels"):
        model.edit(image, prompts=["a"])
    with pytest.raises(InputError, match="`condition` and `labels`"):
        model.edit(image, [0], labels=[1])
    with pytest.raises(InputError, match="`noise` follows from the ends"):
        model.interpolate(1, 2, 2, [0], noise=np.zeros((2, 4, 4, 1)))
    with pytest.raises(InputError, match="num_images=0"):
        model.interpolate(1, 2, 0, [0])
    with pytest.raises(InputError, match="num_bins=0"):
        model.compile(noise_level_bins=0)
    own = [
        each
        for each in ksd.models.DiffusionModel.__mro__
        if each.__module__.startswith("keras_simple_diffusion")
    ]
    assert len(own) <= 4


@pytest.mark.any_backend
def test_a_notebook_shows_a_table():
    names = ["ship", "<b>cat</b>", "dog"]
    table = make_model(class_names=names, num_steps=8)._repr_html_()
    assert table.count("<tr>") == table.count("</tr>") == 8
    for part in (
        *("<th>num_steps</th><td>8</td>", "UViTBackbone of 4 x 4 x 1"),
        "<th>classes</th><td>3: ship, &lt;b&gt;cat&lt;/b&gt;, dog</td>",
    ):
        assert part in table
    assert "<td>3</td>" in make_model()._repr_html_()
    assert "classes" not in make_model(None)._repr_html_()
    many = make_model(30, class_names=[f"c{i}" for i in range(30)])
    assert "c18, c19, ...</td>" in many._repr_html_()


@pytest.mark.any_backend
def test_repr_says_how_a_model_draws():
    text = repr(make_model(guidance_scale=2.0, sampler="ddim", num_steps=8))
    for part in (
        *("UViTBackbone of 4 x 4 x 1", "ShiftedCosineSchedule("),
        *("DiffusionLoss(", "DDIMSampler(", "num_steps: 8"),
        *("guidance_scale: 2.0", "prediction_type: v"),
    ):
        assert part in text
