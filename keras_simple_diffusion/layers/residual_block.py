import math

import keras
from keras import layers

from keras_simple_diffusion.backend.activations import silu
from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.backend.compilation import recompute_cheaply
from keras_simple_diffusion.backend.compilation import rematerialize
from keras_simple_diffusion.layers.conditioning import FeatureModulation
from keras_simple_diffusion.layers.fused_layers import Conv2D
from keras_simple_diffusion.layers.protocol import SPLIT_INPUTS
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import convolution_product
from keras_simple_diffusion.layers.seeded_dropout import SeededDropout
from keras_simple_diffusion.utils.errors import check_rate


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ResidualBlock(layers.Layer):
    """Convolutional residual block of simple diffusion.

    ```
    h = norm(x)
    h = (h + norm(skip)) / sqrt(2)                  # where there is a skip
    h = conv(silu(h))
    h = norm(h) * (1 + scale) + shift               # from the embedding
    x + zero_conv(dropout(silu(h)))
    ```

    The skip of the U-Net is added, not concatenated, and has its own norm.
    The last convolution is initialized with zeros, so that the block starts
    as the identity. Norms are RMS norms over channels; the paper does not
    specify them.

    Args:
        dropout: float. Dropout rate before the last convolution. Defaults to
            `0.0`.
        rematerialize: bool. Whether to recompute the block in the backward
            pass instead of storing its activations. Defaults to `False`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.
        embedding: float tensor of shape `(B, E)`, see
            `keras_simple_diffusion.layers.Conditioning`.
        skip: optional float tensor of the shape of `x`.

    Output shape:
        The shape of `x`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), appendix
    """

    weight_layouts = {
        **FeatureModulation.weight_layouts,
        "conv_in/kernel": (None, None, *SPLIT_OUTPUTS),
        "conv_out/kernel": (None, None, *SPLIT_INPUTS),
    }

    def __init__(self, dropout=0.0, rematerialize=False, **kwargs):
        super().__init__(**kwargs)
        self.dropout_rate = check_rate("dropout", dropout)
        self.rematerialize = rematerialize
        dtype = self.dtype_policy
        self.norm_in = layers.RMSNormalization(dtype=dtype, name="norm_in")
        self.norm_out = layers.RMSNormalization(dtype=dtype, name="norm_out")
        self.modulation = FeatureModulation(dtype=dtype, name="modulation")
        self.dropout = SeededDropout(dropout, dtype=dtype, name="dropout")

    def build(self, x_shape, embedding_shape, skip_shape=None):
        conv = {
            "filters": x_shape[-1],
            "kernel_size": 3,
            "dtype": self.dtype_policy,
        }
        self.conv_in = Conv2D(name="conv_in", **conv)
        self.conv_out = Conv2D(
            name="conv_out", kernel_initializer="zeros", **conv
        )
        for layer in (self.norm_in, self.conv_in, self.norm_out, self.conv_out):
            layer.build(x_shape)
        if skip_shape is not None:
            self.norm_skip = layers.RMSNormalization(
                dtype=self.dtype_policy, name="norm_skip"
            )
            self.norm_skip.build(skip_shape)
        self.modulation.build(x_shape, embedding_shape)
        self.dropout.build(x_shape)

    def call(self, x, embedding, skip=None, training=None):
        seed = self.dropout.draw_seed(training)

        def transform(x, embedding, skip):
            return self._transform(x, embedding, skip, seed, training)

        if training and self.rematerialize:
            return rematerialize(transform, x, embedding, skip)
        return transform(x, embedding, skip)

    def _transform(self, x, embedding, skip, seed, training):
        def first(x, skip):
            h = inner(self.norm_in)(x)
            if skip is not None:
                h = (h + inner(self.norm_skip)(skip)) * (1.0 / math.sqrt(2.0))
            return inner(self.conv_in)(silu(h))

        def second(h, embedding):
            h = inner(self.modulation)(inner(self.norm_out)(h), embedding)
            h = self.dropout.drop(silu(h), mask)
            return inner(self.conv_out)(h)

        run = recompute_cheaply(training and not self.rematerialize)
        h = run(first, x, skip)
        mask = self.dropout.draw_mask(h, seed)
        return x + run(second, h, embedding)

    def compute_output_shape(self, x_shape, embedding_shape, skip_shape=None):
        return x_shape

    def matrix_products(self, x_shape, context_length):
        return [
            convolution_product(self.conv_in, x_shape),
            *self.modulation.matrix_products(x_shape, context_length),
            convolution_product(self.conv_out, x_shape),
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout_rate,
            "rematerialize": self.rematerialize,
        }
