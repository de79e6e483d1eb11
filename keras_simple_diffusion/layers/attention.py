import math

import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.backend.compilation import rematerialize
from keras_simple_diffusion.backend.fused import attend
from keras_simple_diffusion.layers.fused_layers import Dense


def merge_heads(x, shape):
    """`(B, heads, N, d)` to a feature map of `shape`, `(B, H, W, heads d)`."""
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, *shape[1:]))


def head_dim(channels, num_heads):
    """Channels of a head, or a `ValueError` if they do not divide."""
    if channels % num_heads:
        raise ValueError(
            f"`num_heads` must divide the {channels} channels of the "
            f"feature map. Received: num_heads={num_heads}"
        )
    return channels // num_heads


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SelfAttention(layers.Layer):
    """Residual multi-head self-attention over the pixels of a feature map.

    ```
    q, k, v = split(dense(norm(x)))
    x + zero_dense(softmax(norm(q) norm(k)^T / sqrt(d)) v)
    ```

    Queries and keys are normalised for each head, with a learned scale and
    bias. The last dense layer starts at zero. There is no mask: every pixel
    sees every other.

    Args:
        num_heads: int. Number of heads; must divide the channels.
        rematerialize: bool. Whether the layer is computed a second time for
            the gradient instead of kept in memory. Defaults to `False`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.

    Output shape:
        That of `x`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), appendix
    """

    def __init__(self, num_heads, rematerialize=False, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.rematerialize = rematerialize
        dtype = self.dtype_policy
        self.norm = layers.RMSNormalization(dtype=dtype, name="norm")
        self.norm_query = layers.LayerNormalization(dtype=dtype, name="norm_q")
        self.norm_key = layers.LayerNormalization(dtype=dtype, name="norm_k")

    def build(self, x_shape):
        channels = x_shape[-1]
        self.head_dim = head_dim(channels, self.num_heads)
        self.projection = Dense(
            3 * channels, dtype=self.dtype_policy, name="qkv"
        )
        self.output_dense = Dense(
            channels,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="output",
        )
        for layer in (self.norm, self.projection, self.output_dense):
            layer.build(x_shape)
        self.norm_query.build((None, None, None, self.head_dim))
        self.norm_key.build((None, None, None, self.head_dim))

    def call(self, x, training=None):
        if training and self.rematerialize:
            return rematerialize(self._transform, x)
        return self._transform(x)

    def _transform(self, x):
        height, width = x.shape[1:3]
        qkv = inner(self.projection)(inner(self.norm)(x))
        qkv = ops.reshape(
            qkv, (-1, height * width, 3, self.num_heads, self.head_dim)
        )
        # Heads before tokens: one matrix product a head, no strided access.
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3, axis=0)
        q = inner(self.norm_query)(q) * (1.0 / math.sqrt(self.head_dim))
        h = attend(q, inner(self.norm_key)(k), v)
        return x + inner(self.output_dense)(merge_heads(h, x.shape))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "rematerialize": self.rematerialize,
        }


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class CrossAttention(layers.Layer):
    """Residual multi-head attention from pixels to the tokens of a text.

    ```
    q = dense(norm(x))
    k, v = split(dense(norm(context)))
    x + zero_dense(softmax(norm(q) norm(k)^T / sqrt(d)) v)
    ```

    As in `keras_simple_diffusion.layers.SelfAttention` queries and keys are
    normalised for each head, and the last dense layer starts at zero.

    Args:
        num_heads: int. Number of heads; must divide the channels.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.
        context: float tensor of shape `(B, L, D)`, the text embeddings.
        context_mask: optional int or bool tensor of shape `(B, L)`, zero for
            padding.

    Output shape:
        That of `x`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), sec. 3.6
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        dtype = self.dtype_policy
        self.norm = layers.RMSNormalization(dtype=dtype, name="norm")
        self.norm_context = layers.RMSNormalization(
            dtype=dtype, name="norm_context"
        )
        self.norm_query = layers.LayerNormalization(dtype=dtype, name="norm_q")
        self.norm_key = layers.LayerNormalization(dtype=dtype, name="norm_k")

    def build(self, x_shape, context_shape, context_mask_shape=None):
        channels = x_shape[-1]
        self.head_dim = head_dim(channels, self.num_heads)
        dtype = self.dtype_policy
        self.query_dense = Dense(channels, dtype=dtype, name="query")
        self.context_dense = Dense(2 * channels, dtype=dtype, name="key_value")
        self.output_dense = Dense(
            channels, kernel_initializer="zeros", dtype=dtype, name="output"
        )
        for layer in (self.norm, self.query_dense, self.output_dense):
            layer.build(x_shape)
        for layer in (self.norm_context, self.context_dense):
            layer.build(context_shape)
        self.norm_query.build((None, None, None, self.head_dim))
        self.norm_key.build((None, None, None, self.head_dim))

    def call(self, x, context, context_mask=None):
        height, width = x.shape[1:3]
        q = ops.reshape(
            inner(self.query_dense)(inner(self.norm)(x)),
            (-1, height * width, self.num_heads, self.head_dim),
        )
        kv = ops.reshape(
            inner(self.context_dense)(inner(self.norm_context)(context)),
            (-1, ops.shape(context)[1], 2, self.num_heads, self.head_dim),
        )
        q = inner(self.norm_query)(ops.transpose(q, (0, 2, 1, 3)))
        k, v = ops.unstack(ops.transpose(kv, (2, 0, 3, 1, 4)), 2, axis=0)
        h = attend(
            q * (1.0 / math.sqrt(self.head_dim)),
            inner(self.norm_key)(k),
            v,
            None if context_mask is None else ops.cast(context_mask, "bool"),
        )
        return x + inner(self.output_dense)(merge_heads(h, x.shape))

    def compute_output_shape(
        self, x_shape, context_shape, context_mask_shape=None
    ):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}
