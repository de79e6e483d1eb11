import math

import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.layers.affine import Dense
from keras_simple_diffusion.layers.inner import inner
from keras_simple_diffusion.layers.rematerialization import rematerialize
from keras_simple_diffusion.ops.fused import attend


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
