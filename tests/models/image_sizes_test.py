"""Networks and models on images of other sizes of the same area."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.backbones import inputs_of
from tests.helpers.models import make_backbone
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import make_transformer
from tests.helpers.models import randomize
from tests.helpers.models import values_of

LEVELS = {"channels": (8, 16), "blocks": (1, 1)}
NETWORKS = {
    "uvit": (make_backbone, {**LEVELS, "downsampling": "conv"}),
    "residual": (
        make_backbone,
        {
            **LEVELS,
            "cls": ksd.models.ResidualUViTBackbone,
            "downsampling": "dwt",
        },
    ),
    "unet": (make_backbone, {**LEVELS, "cls": ksd.models.UNetBackbone}),
    "transformer": (make_transformer, {"patch_size": 4}),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_of_another_size(kind):
    """It equals a network that is built for the size."""
    make, options = NETWORKS[kind]
    network = randomize(make(image_shape=(16, 16, 1), **options))
    other = randomize(make(image_shape=(12, 20, 1), **options), seed=1)
    assert ksd.models.transfer_weights(network, other) == []
    inputs = inputs_of(other)
    found, expected = map(
        ops.convert_to_numpy, (network(inputs), other(inputs))
    )
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-5 * expected.std())


@pytest.mark.any_backend
def test_sizes_that_are_refused():
    network = make_backbone(image_shape=(16, 16, 1), **LEVELS)
    for size in ((32, 32), (16, 17), (8, 16)):
        with pytest.raises(InputError, match="multiples of 2"):
            network.check_image_size(*size)
        inputs = inputs_of(network)
        inputs["noisy_images"] = np.zeros((2, *size, 1), "float32")
        with pytest.raises(InputError, match="multiples of 2"):
            network(inputs)
    model = make_model(backbone=network)
    with pytest.raises(InputError, match="multiples of 2"):
        model.generate(labels=[0], image_size=(32, 32))
    with pytest.raises(InputError, match="height, width"):
        model.generate(labels=[0], image_size=(32,))
    with pytest.raises(InputError, match="32, 32"):
        model.fit(make_data(image_shape=(32, 32, 1)), verbose=0)


@pytest.mark.any_backend
def test_a_network_of_ones_own_takes_one_size():
    class Plain(ksd.models.DiffusionBackbone):
        def build_network(self, images, conditions):
            return keras.layers.Conv2D(1, 3, padding="same")(images)

    network = Plain((8, 8, 1), embedding_dim=8)
    with pytest.raises(InputError, match="8 x 8 only"):
        network.check_image_size(4, 16)


@pytest.mark.any_backend
def test_a_network_that_turns_portraits_takes_one_size():
    network = make_backbone(
        image_shape=(12, 20, 1), portrait_flag=True, **LEVELS
    )
    with pytest.raises(InputError, match="12 x 20 only"):
        network.check_image_size(20, 12)


def test_training_on_another_size():
    """Losses and weights are those of a network built for the size."""
    data = make_data(8, image_shape=(8, 32, 1))
    results = []
    for shape in ((16, 16, 1), (8, 32, 1)):
        keras.utils.set_random_seed(7)
        network = randomize(make_transformer(image_shape=shape, dropout=0.1))
        model = make_model(backbone=network, schedule="cosine")
        losses = [float(model.train_on_batch(data)) for _ in range(3)]
        results.append((losses, values_of(model.backbone.weights)))
    (losses, weights), (expected, others) = results
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for ours, theirs in zip(weights, others, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


class Traced(ksd.models.DiffusionModel):
    """A model that notes the sizes for which its step is traced."""

    def noisy_batch(self, inputs, training=False):
        self.__dict__.setdefault("traced", []).append(
            tuple(inputs["images"].shape[1:3])
        )
        return super().noisy_batch(inputs, training)


def test_one_program_for_each_bucket(tmp_path):
    shapes = {(20, 20): 6, (20, 40): 4, (40, 20): 2}
    for shape, count in shapes.items():
        for i in range(count):
            path = tmp_path / "ab"[i % 2] / f"{shape[0]}_{shape[1]}_{i}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.full((*shape, 3), 20 * i, "uint8")
            Image.fromarray(pixels).save(path)
    source = ksd.data.open_data(tmp_path, 8, num_channels=1)
    sizes = ksd.data.bucket_sizes((8, 8), 2, 3)
    source = ksd.data.put_into_buckets(source, sizes)
    assert len(source.counts()) == 3
    model = Traced(make_transformer(2, image_shape=(8, 8, 1)))
    model.compile(keras.optimizers.Adam(1e-2), ema_decay=0.9)
    batches = ksd.data.training_batches(source, 2, seed=1)
    history = model.fit(batches, steps_per_epoch=12, epochs=3, verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all()
    assert set(model.traced) == set(sizes)
    if keras.config.backend() != "torch":  # It runs without programs.
        assert len(model.traced) == 3
    # Keras looks at two batches, which must not be all that it takes.
    for seed in range(50):
        later = ksd.data.training_batches(source, 2, seed=seed)
        read = iter(later)
        first, second, third = (next(read)["images"].shape for _ in range(3))
        if first == second != third:
            break
    options = {"validation_data": later, "validation_steps": 3}
    history = model.fit(batches, steps_per_epoch=2, verbose=0, **options)
    assert np.isfinite(history.history["val_loss"]).all()
    assert np.isfinite(model.evaluate(later, steps=3, verbose=0))
    images = model.generate(labels=[0, 1], num_steps=2, image_size=sizes[0])
    assert images.shape == (2, *sizes[0], 1)


def test_drawing_and_editing_at_another_size():
    model = make_model(
        backbone=randomize(make_transformer(image_shape=(8, 8, 1))),
        num_steps=2,
        sampler="ddim",
    )
    options = {"seed": 1, "image_size": (4, 16)}
    images = model.generate(labels=[0, 1], **options)
    assert images.shape == (2, 4, 16, 1) and images.std() > 1
    one = model.generate(labels=[1], indices=[1], **options)
    np.testing.assert_allclose(one[0], images[1].astype(int), atol=1)
    usual = model.generate(labels=[0], seed=1)
    assert usual.shape == (1, 8, 8, 1)
    mask = np.zeros((4, 16), bool)
    mask[:, 8:] = True
    redrawn = model.inpaint(images, mask, [1, 0], seed=2)
    np.testing.assert_array_equal(redrawn[:, :, :8], images[:, :, :8])
    assert (redrawn[:, :, 8:] != images[:, :, 8:]).any()
    assert model.edit(images, [0, 1], seed=2).shape == images.shape
    between = model.interpolate(0, 1, 3, [0], image_size=(4, 16))
    assert between.shape == (3, 4, 16, 1)


@pytest.mark.skipif(
    keras.config.backend() == "jax",
    reason="On JAX sizes have nothing to do with the kind of data.",
)
def test_captions_and_sizes(tmp_path):
    rows = []
    for i, shape in enumerate([(20, 20), (20, 40), (20, 20), (20, 40)]):
        Image.fromarray(np.zeros(shape, "uint8")).save(tmp_path / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "text": f"image {i}"})
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "metadata.jsonl").write_text(lines)
    source = ksd.data.open_data(tmp_path, 8, num_channels=1)
    source = ksd.data.put_into_buckets(source, [(8, 8), (6, 12)])
    network = make_transformer(None, image_shape=(8, 8, 1), context_dim=8)
    encoder = make_text_encoder(source.captions())
    model = ksd.models.TextToImage(network, encoder)
    model.compile("adam", jit_compile=False)
    batches = ksd.data.training_batches(source, 2, keys=("images", "captions"))
    history = model.fit(batches, steps_per_epoch=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
