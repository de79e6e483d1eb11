"""The pixel transformer against PyTorch, on the weights of a published file."""

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.converters import jit
from keras_simple_diffusion.converters.name_map import assign_weights
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import make_transformer
from tests.helpers.models import randomize
from tests.reference import torch_pixel_transformer as reference

PixelTransformerBackbone = ksd.models.PixelTransformerBackbone


@pytest.mark.parametrize(
    "image_shape, patch_size, noise_scale",
    [((16, 16, 3), 4, 1.0), ((32, 16, 3), 8, 2.0)],
)
def test_it_equals_the_reference(image_shape, patch_size, noise_scale):
    height, width, channels = image_shape
    depth, start, heads, classes, tokens = 3, 1, 2, 5, 4
    shapes = reference.shapes_of(
        16, patch_size, 32, depth, heads, 6, classes, tokens, channels
    )
    weights = reference.random_weights(shapes)
    backbone = PixelTransformerBackbone(
        image_shape,
        patch_size,
        width=32,
        depth=depth,
        num_heads=heads,
        bottleneck_dim=6,
        num_class_tokens=tokens,
        class_token_block=start,
        noise_scale=noise_scale,
        num_classes=classes,
    )
    assign_weights(backbone, weights, jit.name_map(depth), jit.COMPUTED)

    # Points on the path of JiT, and the same ones as noisy images.
    rng = np.random.default_rng(1)
    time = np.array([0.002, 0.3, 0.97])
    clean, noise = rng.normal(size=(2, 3, *image_shape))
    t = time[:, None, None, None]
    state = t * clean + (1 - t) * noise_scale * noise
    ratio = time / ((1 - time) * noise_scale)  # Signal over noise.
    alpha = (ratio / np.sqrt(1 + ratio**2))[:, None, None, None]
    sigma = np.sqrt(1 - alpha**2)
    labels = np.array([0, 4, classes], "int32")
    found = backbone.predict_on_batch(
        {
            "noisy_images": (alpha * clean + sigma * noise).astype("float32"),
            "log_snr": (2 * np.log(ratio)).astype("float32"),
            "labels": labels,
        }
    )
    expected = reference.forward(
        weights,
        state.transpose(0, 3, 1, 2),
        time,
        labels,
        start,
        patch_size,
        heads,
    ).transpose(0, 2, 3, 1)
    assert expected.std() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.std())


def test_it_trains_is_saved_and_generates(tmp_path):
    model = make_model(
        backbone=make_transformer(depth=4, dropout=0.1),
        schedule=ksd.schedules.NormalSchedule(image_size=4, noise_size=8),
        loss=ksd.losses.DiffusionLoss("x"),
        prediction_type="x",
        guidance_scale=2.0,
        guidance_interval=(-4.0, 15.0),
    )
    history = model.fit(make_data(), batch_size=8, epochs=6, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < 0.95 * losses[0]
    model.save_to_preset(tmp_path)
    loaded = ksd.models.DiffusionModel.from_preset(str(tmp_path))
    assert loaded.guidance_interval == (-4.0, 15.0)
    arguments = {"labels": [0, 3], "num_steps": 3, "seed": 1}
    images = loaded.generate(**arguments)
    assert images.shape == (2, 4, 4, 1) and images.std() > 1
    np.testing.assert_array_equal(images, model.generate(**arguments))


def test_the_interval_of_the_model_is_the_default():
    model = make_model(
        backbone=randomize(make_transformer()),
        sampler="ddim",
        guidance_scale=2.0,
        guidance_interval=(-4.0, 15.0),
    )
    arguments = {"labels": [0, 2], "num_steps": 4, "seed": 1}
    images = model.generate(**arguments)
    same = model.generate(**arguments, guidance_interval=(-4.0, 15.0))
    np.testing.assert_array_equal(images, same)
    everywhere = model.generate(**arguments, guidance_interval=(-99, np.inf))
    assert (images != everywhere).any()


@pytest.mark.any_backend
def test_dropout_in_the_middle_half():
    backbone = PixelTransformerBackbone(
        (8, 8, 1), patch_size=4, width=8, depth=8, num_heads=1, dropout=0.2
    )
    rates = [backbone.get_layer(f"transformer_{i}") for i in range(8)]
    rates = [block.dropout_rate for block in rates]
    assert rates == [0.0] * 2 + [0.2] * 4 + [0.0] * 2


@pytest.mark.any_backend
@pytest.mark.parametrize("classes, tokens", [(None, 4), (3, 0)])
def test_without_tokens_of_the_class(classes, tokens):
    backbone = PixelTransformerBackbone(
        (8, 8, 1),
        patch_size=4,
        width=8,
        depth=2,
        num_heads=1,
        num_class_tokens=tokens,
        class_token_block=0,
        num_classes=classes,
    )
    assert backbone.get_layer("transformer_1").output.shape == (None, 4, 8)
    assert not any("class_tokens" in weight.path for weight in backbone.weights)


@pytest.mark.any_backend(on="torch")
def test_positions_need_no_values():
    """Costs are counted on PyTorch's meta device, without memory."""
    if keras.config.backend() != "torch":
        pytest.skip("only PyTorch has a meta device")
    with keras.device("meta"):
        backbone = ksd.models.DiffusionBackbone.from_preset(
            "jit_mini_64", load_weights=False
        )
        output = backbone(
            {
                name: keras.ops.zeros((1, *tensor.shape[1:]), tensor.dtype)
                for name, tensor in backbone.input.items()
            }
        )
    assert tuple(output.shape) == (1, 64, 64, 3)
    assert output.device.type == "meta"
