import math

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.activations import silu
from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.backend.compilation import recompute_cheaply
from keras_simple_diffusion.backend.compilation import rematerialize
from keras_simple_diffusion.layers.attention import CrossAttention
from keras_simple_diffusion.layers.attention import SelfAttention
from keras_simple_diffusion.layers.conditioning import FeatureModulation
from keras_simple_diffusion.layers.fused_layers import Dense
from keras_simple_diffusion.layers.protocol import COPIED
from keras_simple_diffusion.layers.protocol import SPLIT_INPUTS
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import dense_product
from keras_simple_diffusion.layers.seeded_dropout import SeededDropout
from keras_simple_diffusion.utils.errors import check_choice
from keras_simple_diffusion.utils.errors import check_rate


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class TransformerBlock(layers.Layer):
    """Transformer block of the U-ViT: perceptron, then attention.

    ```
    h = norm(x)
    h = (h + norm(skip)) / sqrt(2)                  # if there is a skip
    h = silu(dense(h))                              # 4 C channels
    h = h * (1 + scale) + shift                     # from the embedding
    x = x + zero_dense(dropout(h))
    x = self_attention(x)                           # residual
    x = cross_attention(x, context)                 # if there is text
    ```

    The conditioning modulates the perceptron only. With `modulation="norm"`,
    scale and shift are applied to the `C` channels of the normalized input
    instead of the `4 C` hidden channels, with a quarter of the weights.

    Args:
        num_heads: int. Number of attention heads; must divide the channels.
        dropout: float. Dropout rate in the perceptron. Defaults to `0.0`.
        modulation: string. Where scale and shift are applied: `"hidden"`, on
            the hidden layer (simple diffusion), or `"norm"`, before it
            (SiD2). Defaults to `"hidden"`.
        rematerialize: bool. Whether to recompute the block in the backward
            pass instead of storing its activations. Defaults to `False`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.
        embedding: float tensor of shape `(B, E)`, see
            `keras_simple_diffusion.layers.Conditioning`.
        skip: optional float tensor of the shape of `x`.
        context: optional float tensor of shape `(B, L, D)`, see
            `keras_simple_diffusion.layers.CrossAttention`.
        context_mask: optional int or bool tensor of shape `(B, L)`, zero for
            padding.

    Output shape:
        The shape of `x`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093),
          section 3.6 and appendix
    """

    weight_layouts = {
        **FeatureModulation.weight_layouts,
        **SelfAttention.weight_layouts,
        **CrossAttention.weight_layouts,
        "hidden/kernel": SPLIT_OUTPUTS,
        "output/kernel": SPLIT_INPUTS,
    }

    def __init__(
        self,
        num_heads,
        dropout=0.0,
        modulation="hidden",
        rematerialize=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = check_rate("dropout", dropout)
        self.modulated_at = check_choice(
            "modulation", modulation, ("hidden", "norm")
        )
        self.rematerialize = rematerialize
        dtype = self.dtype_policy
        self.norm = layers.RMSNormalization(dtype=dtype, name="norm")
        self.modulation = FeatureModulation(dtype=dtype, name="modulation")
        self.dropout = SeededDropout(dropout, dtype=dtype, name="dropout")
        self.attention = SelfAttention(num_heads, dtype=dtype, name="attention")
        self.cross_attention = None

    def build(
        self,
        x_shape,
        embedding_shape,
        skip_shape=None,
        context_shape=None,
        context_mask_shape=None,
    ):
        channels = x_shape[-1]
        hidden_shape = (*x_shape[:-1], 4 * channels)
        self.hidden_dense = Dense(
            4 * channels, dtype=self.dtype_policy, name="hidden"
        )
        self.output_dense = Dense(
            channels,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="output",
        )
        self.norm.build(x_shape)
        if skip_shape is not None:
            self.norm_skip = layers.RMSNormalization(
                dtype=self.dtype_policy, name="norm_skip"
            )
            self.norm_skip.build(skip_shape)
        self.hidden_dense.build(x_shape)
        self.modulation.build(
            hidden_shape if self.modulated_at == "hidden" else x_shape,
            embedding_shape,
        )
        self.dropout.build(hidden_shape)
        self.output_dense.build(hidden_shape)
        self.attention.build(x_shape)
        if context_shape is not None:
            self.cross_attention = CrossAttention(
                self.num_heads, dtype=self.dtype_policy, name="cross_attention"
            )
            self.cross_attention.build(
                x_shape, context_shape, context_mask_shape
            )

    def call(
        self,
        x,
        embedding,
        skip=None,
        context=None,
        context_mask=None,
        training=None,
    ):
        seed = self.dropout.draw_seed(training)

        def transform(x, embedding, skip, context):
            return self._transform(
                x, embedding, skip, context, context_mask, seed, training
            )

        if training and self.rematerialize:
            return rematerialize(transform, x, embedding, skip, context)
        return transform(x, embedding, skip, context)

    def _transform(
        self, x, embedding, skip, context, context_mask, seed, training
    ):
        def first(x, embedding, skip):
            h = inner(self.norm)(x)
            if skip is not None:
                h = (h + inner(self.norm_skip)(skip)) * (1.0 / math.sqrt(2.0))
            if self.modulated_at == "norm":
                h = inner(self.modulation)(h, embedding)
            return inner(self.hidden_dense)(h)

        def second(h, embedding):
            h = silu(h)
            if self.modulated_at == "hidden":
                h = inner(self.modulation)(h, embedding)
            return inner(self.output_dense)(self.dropout.drop(h, mask))

        training = training and not self.rematerialize
        run = recompute_cheaply(training)
        h = run(first, x, embedding, skip)
        mask = self.dropout.draw_mask(h, seed)
        x = x + run(second, h, embedding)
        x = inner(self.attention)(x, training=training)
        if context is not None:
            x = inner(self.cross_attention)(x, context, context_mask)
        return x

    def compute_output_shape(
        self,
        x_shape,
        embedding_shape,
        skip_shape=None,
        context_shape=None,
        context_mask_shape=None,
    ):
        return x_shape

    def matrix_products(self, x_shape, context_length):
        hidden_shape = (*x_shape[:-1], 4 * x_shape[-1])
        products = [
            *self.modulation.matrix_products(x_shape, context_length),
            dense_product(self.hidden_dense, x_shape),
            dense_product(self.output_dense, hidden_shape),
            *self.attention.matrix_products(x_shape, context_length),
        ]
        if self.cross_attention is not None:
            products += self.cross_attention.matrix_products(
                x_shape, context_length
            )
        return products

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout_rate,
            "modulation": self.modulated_at,
            "rematerialize": self.rematerialize,
        }


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class PositionEmbedding2D(keras.layers.Layer):
    """Addition of a learned vector for each pixel of a feature map.

    The vectors are those of the shape that the layer is built with. To a
    feature map of another height or width they are interpolated linearly.

    Args:
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`, with fixed `C`.

    Output shape:
        The shape of the input.
    """

    weight_layouts = {"embedding": COPIED}

    def build(self, x_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=x_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.01),
        )

    def call(self, x):
        vectors = self.embedding
        known, size = tuple(vectors.shape[:2]), tuple(x.shape[1:3])
        if size != known:
            rows, columns = (
                ops.convert_to_tensor(_interpolation(*sizes), x.dtype)
                for sizes in zip(known, size, strict=True)
            )
            vectors = ops.einsum("hk,kwc->hwc", rows, vectors)
            vectors = ops.einsum("wk,hkc->hwc", columns, vectors)
        return x + vectors

    def compute_output_shape(self, x_shape):
        return x_shape

    def matrix_products(self, x_shape, context_length):
        return []

    def get_config(self):
        return super().get_config()


def _interpolation(known, size):
    """Return the `(size, known)` matrix of linear interpolation on a line.

    The points are the centers of equal parts of the line.
    """
    points = (np.arange(size) + 0.5) * known / size - 0.5
    points = points.clip(0, known - 1)[:, None]
    return np.maximum(1 - np.abs(points - np.arange(known)), 0)
