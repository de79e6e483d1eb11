"""Initialization from the weights of a network for another resolution."""

import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models.transfer import copy_weights
from keras_simple_diffusion.ops import dwt2
from keras_simple_diffusion.utils.errors import InputError

transfer_weights = ksd.models.transfer_weights


def make(image_size, cls=ksd.models.UViTBackbone, seed=0, **kwargs):
    arguments = {"channels": (8, 32), "blocks": (1, 4), "num_heads": 2}
    backbone = cls(
        (image_size, image_size, 3),
        **{**arguments, "embedding_dim": 16, "num_classes": 3, **kwargs},
    )
    rng = np.random.default_rng(seed)
    for weight in backbone.weights:
        weight.assign(rng.normal(size=weight.shape).astype("float32"))
    return backbone


def values_of(backbone):
    return {w.path: ops.convert_to_numpy(w).copy() for w in backbone.weights}


@pytest.mark.parametrize(
    "levels, more_levels", [(0, 1), (1, 2)], ids=["first", "second"]
)
def test_a_further_level_of_the_wavelet_adds_bands_of_zeros(
    levels, more_levels
):
    def wavelet(levels):
        if not levels:
            return {}
        return {"downsampling": "dwt", "downsampling_factor": 2**levels}

    source = make(16, **wavelet(levels))
    target = make(32, **wavelet(more_levels), seed=1)
    with pytest.warns(UserWarning, match="the high bands of input_conv/kernel"):
        fresh = transfer_weights(source, target)
    assert set(fresh) == {
        "input_conv/kernel",
        "output_conv/kernel",
        "output_conv/bias",
    }
    rng = np.random.default_rng(2)
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    others = {"log_snr": ops.array([-1.0, 2.0]), "labels": ops.array([0, 2])}
    bands = dwt2(
        target({"noisy_images": ops.array(images), **others}, training=False)
    )
    low = dwt2(images)[..., :3]
    expected = source({"noisy_images": low, **others}, training=False)
    scale = np.abs(ops.convert_to_numpy(expected)).max()
    np.testing.assert_allclose(
        ops.convert_to_numpy(bands[..., :3]) / scale,
        ops.convert_to_numpy(expected) / scale,
        atol=1e-5,
    )
    high = np.abs(ops.convert_to_numpy(bands[..., 3:])).max()
    assert high <= 1e-5 * scale


@pytest.mark.parametrize(
    "source",
    [
        make(16, channels=(16, 32)),
        make(16, downsampling="conv"),
        ksd.models.PixelTransformerBackbone((16, 16, 3), 4, 8, 2, 2),
    ],
    ids=["channels", "convolution", "transformer"],
)
def test_other_networks_do_not_lend_the_bands_of_a_wavelet(source):
    target = make(32, downsampling="dwt", downsampling_factor=4, seed=1)
    before = values_of(target)
    try:
        told = copy_weights(source, target).names
    except InputError as error:
        told = str(error)
    assert "input_conv/kernel (3, 3, 48, 8)" in told
    after = values_of(target)["input_conv/kernel"]
    np.testing.assert_array_equal(after, before["input_conv/kernel"])


def test_what_agrees_is_copied_and_the_rest_is_named():
    # Half the patch size: four times the tokens at the lowest level.
    source = make(16, downsampling="conv", downsampling_factor=4)
    target = make(16, downsampling="conv", downsampling_factor=2, seed=1)
    fresh = {"input_conv/kernel", "output_conv/kernel"}
    before, trained = values_of(target), values_of(source)
    with pytest.warns(UserWarning, match="input_conv/kernel") as record:
        assert set(transfer_weights(source, target)) == fresh
    assert len(record) == 1 and record[0].filename == __file__
    total = target.count_params()
    copied = total - sum(before[path].size for path in fresh)
    text = f"{copied:,} of {total:,} parameters were copied"
    assert text in str(record[0].message)
    for path, value in values_of(target).items():
        expected = before if path in fresh else trained
        if value.shape == expected[path].shape:
            np.testing.assert_array_equal(value, expected[path])


@pytest.mark.parametrize("grid", [2, 4, 16])
def test_position_embeddings_keep_their_place_in_the_image(grid):
    source, target = make(8 * 2), make(grid * 2, seed=1)
    (weight,) = (w for w in source.weights if w.path.endswith("/embedding"))
    rows = (np.arange(8) + 0.5) / 8  # Their centers, in heights of the image.
    weight.assign(np.broadcast_to(rows[:, None, None], weight.shape))
    assert transfer_weights(source, target) == []
    (weight,) = (w for w in target.weights if w.path.endswith("/embedding"))
    # An interpolation of the heights gives the heights, but beyond the centers
    # of the outer rows.
    expected = np.clip((np.arange(grid) + 0.5) / grid, rows[0], rows[-1])
    expected = np.broadcast_to(expected[:, None, None], weight.shape)
    np.testing.assert_allclose(
        ops.convert_to_numpy(weight), expected, rtol=1e-5
    )


def test_from_a_preset_in_one_call(tmp_path):
    source, target = make(8), make(8, seed=1)
    source.save_to_preset(tmp_path)
    assert transfer_weights(tmp_path, target) == []
    for path, value in values_of(target).items():
        np.testing.assert_array_equal(value, values_of(source)[path])


def test_from_a_trained_model_the_averages_are_taken():
    model = ksd.models.DiffusionModel(make(8))
    images = np.zeros((8, 8, 8, 3), "uint8")
    data = {"images": images, "labels": np.zeros(8, "int32")}
    model.fit(data, batch_size=4, epochs=3, verbose=0)
    target = make(8, seed=1)
    transfer_weights(model, target)
    with model.averaged_weights():
        expected = values_of(model.backbone)
    for path, value in values_of(target).items():
        np.testing.assert_array_equal(value, expected[path])


@pytest.mark.parametrize(
    "target", [make(8, channels=(8, 16)), make(8, blocks=(1, 5))]
)
def test_too_little_in_common_is_an_error(target):
    before = values_of(target)
    with pytest.raises(ValueError, match=r"Only [\d,]+ of .*90% must. Not f"):
        transfer_weights(make(8), target)
    for path, value in values_of(target).items():
        np.testing.assert_array_equal(value, before[path])


def label_rows(model):
    return ops.convert_to_numpy(
        {w.path: w for w in model.backbone.weights}[
            "conditioning/label/embeddings"
        ]
    )


def test_classes_are_matched_by_name():
    names = ["Airplanes", "sun_flower", "watch"]
    source = ksd.models.DiffusionModel(make(8), class_names=names)
    target = ksd.models.DiffusionModel(
        make(8, seed=1, num_classes=4),
        class_names=["Sun flower", "bike", "airplanes", "WATCH"],
    )
    before = label_rows(target)
    with pytest.warns(UserWarning, match="the vectors of 1 new classes"):
        fresh = transfer_weights(source, target)
    assert fresh == ["conditioning/label/embeddings"]
    theirs, ours = label_rows(source), label_rows(target)
    np.testing.assert_array_equal(ours[[2, 0, 3, 4]], theirs[[0, 1, 2, 3]])
    np.testing.assert_array_equal(ours[1], before[1])


def noisy_images_and_outputs_without_a_class(source):
    rng = np.random.default_rng(0)
    inputs = {
        "noisy_images": rng.normal(size=(2, 8, 8, 3)).astype("float32"),
        "log_snr": np.array([-1.0, 2.0], "float32"),
    }
    labels = np.full(2, source.num_classes, "int32")
    return inputs, source.predict_on_batch({**inputs, "labels": labels})


def test_a_network_without_classes_starts_as_that_of_no_class():
    source, target = make(8), make(8, seed=1, num_classes=None)
    assert transfer_weights(source, target) == []
    inputs, expected = noisy_images_and_outputs_without_a_class(source)
    found = target.predict_on_batch(inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_texts_starts_as_one_of_classes_without_a_class():
    source = make(8)
    target = ksd.models.UViTBackbone(
        (8, 8, 3),
        (8, 32),
        (1, 4),
        num_heads=2,
        embedding_dim=16,
        context_dim=12,
    )
    with pytest.warns(UserWarning, match="conditioning/context/kernel"):
        fresh = transfer_weights(source, target)
    assert all("context" in path or "cross_attention" in path for path in fresh)
    inputs, expected = noisy_images_and_outputs_without_a_class(source)
    rng = np.random.default_rng(1)
    context = rng.normal(size=(2, 5, 12)).astype("float32")
    found = target.predict_on_batch(
        {**inputs, "context": context, "context_mask": np.ones((2, 5), "int32")}
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
