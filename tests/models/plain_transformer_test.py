"""A plain transformer, defined as a user would: one class on the base class."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import dense_product
from tests.helpers.backbones import run_backbone_test
from tests.helpers.models import make_data

DiffusionBackbone = ksd.models.DiffusionBackbone
TransformerBlock = ksd.layers.TransformerBlock
PositionEmbedding2D = ksd.layers.PositionEmbedding2D


@keras.saving.register_keras_serializable("plain_transformer_test")
class Unpatchify(keras.layers.Layer):
    """A dense layer to the pixels of each patch."""

    weight_layouts = {"pixels/kernel": SPLIT_OUTPUTS}

    def __init__(self, patch_size, channels, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.patch_size = patch_size
        self.channels = channels
        self.dense = keras.layers.Dense(
            patch_size**2 * channels,
            kernel_initializer="zeros",
            dtype="float32",
            name="pixels",
        )

    def build(self, x_shape):
        self.dense.build(x_shape)

    def call(self, x):
        size, (height, width) = self.patch_size, x.shape[1:3]
        x = ops.reshape(self.dense(x), (-1, height, width, size, size, 3))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * size, width * size, 3))

    def matrix_products(self, x_shape, context_length):
        return [dense_product(self.dense, x_shape)]

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "channels": self.channels,
        }


@keras.saving.register_keras_serializable("plain_transformer_test")
class PlainBackbone(DiffusionBackbone):
    layer_types = (
        *DiffusionBackbone.layer_types,
        PositionEmbedding2D,
        TransformerBlock,
        Unpatchify,
    )

    def __init__(self, image_shape, patch_size, width, num_blocks, **kwargs):
        self.patch_size = patch_size
        self.width = width
        self.num_blocks = num_blocks
        super().__init__(image_shape, **kwargs)

    def build_network(self, images, conditions):
        x = keras.layers.Conv2D(
            self.width,
            self.patch_size,
            strides=self.patch_size,
            data_format="channels_last",
            dtype="float32",
            name="patchify",
        )(images)
        x = PositionEmbedding2D(dtype=self.block_dtype, name="position")(x)
        for i in range(self.num_blocks):
            x = TransformerBlock(
                2,
                rematerialize="transformer" in self.rematerialize,
                dtype=self.block_dtype,
                name=f"block_{i}",
            )(x, **conditions)
        return Unpatchify(
            self.patch_size, self.image_shape[-1], name="unpatchify"
        )(x)

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "width": self.width,
            "num_blocks": self.num_blocks,
        }


def make(**kwargs):
    arguments = {"embedding_dim": 16, "num_classes": 4}
    return PlainBackbone((8, 8, 3), 2, 16, 1, **{**arguments, **kwargs})


def test_backbone(tmp_path):
    run_backbone_test(make, tmp_path)


def test_it_takes_text(tmp_path):
    backbone = make(num_classes=None, context_dim=6, portrait_flag=True)
    cross_attention = backbone.get_layer("block_0").cross_attention
    assert cross_attention.context_dense.kernel.shape == (6, 32)


def test_macs():
    # Per token: patch, hidden and output, qkv and output, scores and mixture
    # of 16 keys, pixels.
    token = 12 * 16 + 2 * 4 * 16 * 16 + 4 * 16 * 16 + 2 * 16 * 16 + 16 * 12
    # Two layers of the embedding, scale and shift of the hidden layer.
    conditioning = 2 * 16 * 16 + 16 * 2 * 64
    assert ksd.models.count_macs(make()) == {0: conditioning, 4: 16 * token}


def test_layouts():
    devices = [f"cpu:{i}" for i in range(8)]
    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"), devices)
    layouts = PlainBackbone.get_layout_map(mesh)
    assert layouts["unpatchify/pixels/kernel"].axes == ("batch", "model")
    assert layouts["block_0/hidden/kernel"].axes == ("batch", "model")
    assert layouts["block_0/attention/output/kernel"].axes == ("model", "batch")
    for copied in ("patchify/kernel", "position/embedding"):
        assert layouts[copied] is None


def test_it_trains_is_saved_and_generates(tmp_path):
    model = ksd.models.DiffusionModel(make(rematerialize=("transformer",)))
    data = make_data(8, num_classes=4, image_shape=(8, 8, 3))
    history = model.fit(data, batch_size=8, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    model.save_to_preset(str(tmp_path))
    loaded = ksd.models.DiffusionModel.from_preset(str(tmp_path))
    assert type(loaded.backbone) is PlainBackbone
    arguments = {"num_images": 2, "labels": [0, 3], "num_steps": 2, "seed": 1}
    images = loaded.generate(**arguments)
    assert images.shape == (2, 8, 8, 3) and images.dtype == "uint8"
    np.testing.assert_array_equal(images, model.generate(**arguments))


@pytest.mark.parametrize("cls", [DiffusionBackbone])
def test_a_base_class_asks_for_its_method(cls):
    with pytest.raises(NotImplementedError, match="build_network"):
        cls((8, 8, 3))
