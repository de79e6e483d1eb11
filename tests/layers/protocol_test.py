"""Cost and layouts that layers report."""

import keras
import pytest
from keras import layers

import keras_simple_diffusion as ksd
from keras_simple_diffusion.layers import protocol
from keras_simple_diffusion.models.cost import arithmetic_intensity
from keras_simple_diffusion.models.cost import layer_products

InputError = ksd.utils.errors.InputError


class Silent(layers.Layer):
    """A layer with a weight that reports nothing."""

    def build(self, x_shape):
        self.matrix = self.add_weight(shape=(4, 4), name="matrix")

    def call(self, x):
        return keras.ops.matmul(x, self.matrix)


def products_of(layer, shape=(8, 6, 4)):
    """List the products of a layer that is called on one input."""
    layer(keras.Input(shape))
    return layer_products(layer)


@pytest.mark.parametrize(
    "layer, macs",
    [
        (layers.Dense(5), 48 * 4 * 5),
        (layers.Conv2D(5, 3, padding="same"), 48 * 9 * 4 * 5),
        (layers.Conv2D(5, 2, strides=2), 12 * 4 * 4 * 5),
        (layers.Conv2D(6, 3, groups=2), 6 * 4 * 9 * 2 * 6),
        (layers.Conv2DTranspose(5, 2, strides=2), 48 * 4 * 4 * 5),
        (layers.LayerNormalization(), 0),
        (layers.RMSNormalization(), 0),
        (layers.Activation("silu"), 0),
    ],
)
def test_layers_of_keras(layer, macs):
    with_channels_last = {"data_format": "channels_last"}
    if "Conv" in type(layer).__name__:
        layer = type(layer)(**{**layer.get_config(), **with_channels_last})
    products = products_of(layer)
    assert sum(product.macs for product in products) == macs
    assert all(product.height for product in products)


def test_sizes_of_products():
    (product,) = products_of(ksd.layers.Downsample2D(5))
    assert product == protocol.MatrixProduct(
        height=4, macs=12 * 20, inputs=12 * 4, outputs=12 * 5, weights=20
    )
    # The dense layer runs before the pixels are repeated.
    (product,) = products_of(ksd.layers.Upsample2D(5))
    assert product == protocol.MatrixProduct(
        height=8, macs=48 * 20, inputs=48 * 4, outputs=48 * 5, weights=20
    )
    attention = protocol.attention_product((None, 8, 6, 4), num_keys=10)
    assert attention == protocol.MatrixProduct(
        height=8,
        macs=2 * 48 * 10 * 4,
        inputs=(48 + 2 * 10) * 4,
        outputs=48 * 4,
        weights=0,
    )


def test_arithmetic_intensity():
    x = keras.Input((2, 2, 4))
    model = keras.Model(x, layers.Dense(8)(x))
    # 4 pixels: 2 * 128 operations on 16 + 32 numbers and 32 / 2 weights.
    found = arithmetic_intensity(model, batch_size=2)
    assert found == {2: 256 / (2 * (16 + 32 + 16))}


def test_cost_of_an_unknown_layer_is_an_error():
    layer = Silent(name="silent")
    with pytest.raises(InputError, match=r"'silent'.*Silent.matrix_products"):
        products_of(layer)


def test_layout_of_an_unknown_layer_is_an_error():
    layer = Silent(name="silent")
    layer.build((None, 4))
    with pytest.raises(InputError, match="'silent/matrix'.*weight_layouts"):
        protocol.check_layouts([layer], ())
    Silent.weight_layouts = {"matrix": protocol.COPIED}
    try:
        protocol.check_layouts([layer], (Silent,))
        # A class that the network does not name.
        with pytest.raises(InputError, match="name Silent in the network's"):
            protocol.check_layouts([layer], (ksd.layers.SelfAttention,))
    finally:
        del Silent.weight_layouts


def test_layers_that_disagree_are_an_error():
    class Other(layers.Layer):
        weight_layouts = {"qkv/kernel": protocol.SPLIT_INPUTS}

    with pytest.raises(InputError, match="'qkv/kernel' in Other"):
        protocol.merge_layouts([ksd.layers.SelfAttention, Other])


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="Keras distributes on JAX only"
)
def test_layouts_are_checked_under_tensor_parallelism():
    class Careless(ksd.models.DiffusionBackbone):
        def build_network(self, images, conditions):
            return Silent(name="silent")(images)

    devices = [f"cpu:{i}" for i in range(2)]
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"), devices)
    Careless((4, 4, 4), embedding_dim=8)
    distribution = keras.distribution.ModelParallel(
        layout_map=Careless.get_layout_map(mesh), batch_dim_name="batch"
    )
    with (
        distribution.scope(),
        pytest.raises(InputError, match="'silent/matrix'"),
    ):
        Careless((4, 4, 4), embedding_dim=8)
