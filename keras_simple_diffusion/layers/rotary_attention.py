import math

import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.backend.fused import attend
from keras_simple_diffusion.layers.fused_layers import Dense
from keras_simple_diffusion.layers.positions import rotate
from keras_simple_diffusion.layers.protocol import SPLIT_INPUTS
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import attention_product
from keras_simple_diffusion.layers.protocol import dense_product
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class RotaryAttention(layers.Layer):
    """Multi-head self-attention of tokens with rotary positions.

    ```
    q, k, v = split(dense(x))
    dense(softmax(rotate(norm(q)) rotate(norm(k))^T / sqrt(d)) v)
    ```

    Queries and keys of each head have an RMS norm with a learned scale. Every
    token attends to every other.

    Args:
        num_heads: int. Number of heads; must divide the channels.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, N, C)`.
        rotation: float tensor of shape `(2, N, C / num_heads)`, see
            `RotaryPositions2D`.

    Output shape:
        The shape of `x`.

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720), section 4.4
        - [Henry et al., 2020](https://arxiv.org/abs/2010.04245), for the norms
    """

    weight_layouts = {
        "qkv/kernel": SPLIT_OUTPUTS,
        "output/kernel": SPLIT_INPUTS,
    }

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = check_integer("num_heads", num_heads)
        dtype = self.dtype_policy
        self.norm_query = layers.RMSNormalization(dtype=dtype, name="norm_q")
        self.norm_key = layers.RMSNormalization(dtype=dtype, name="norm_k")

    def build(self, x_shape, rotation_shape):
        channels, dtype = x_shape[-1], self.dtype_policy
        if channels % self.num_heads:
            raise InputError(
                f"`num_heads` must divide the {channels} channels of the "
                f"tokens. Received: num_heads={self.num_heads}"
            )
        self.head_dim = channels // self.num_heads
        self.norm_query.build((None, None, None, self.head_dim))
        self.norm_key.build((None, None, None, self.head_dim))
        self.projection = Dense(3 * channels, dtype=dtype, name="qkv")
        self.projection.build(x_shape)
        self.output_dense = Dense(channels, dtype=dtype, name="output")
        self.output_dense.build(x_shape)

    def call(self, x, rotation):
        return self.attend(inner(self.projection)(x), rotation)

    def attend(self, projected, rotation):
        """Compute the result from that of the first dense layer."""
        length, channels = projected.shape[1], self.num_heads * self.head_dim
        shape = (-1, length, 3, self.num_heads, self.head_dim)
        heads = ops.reshape(projected, shape)
        q, k, v = ops.unstack(ops.transpose(heads, (2, 0, 3, 1, 4)), 3, axis=0)
        q = rotate(inner(self.norm_query)(q), rotation)
        k = rotate(inner(self.norm_key)(k), rotation)
        h = attend(q * (1.0 / math.sqrt(self.head_dim)), k, v)
        h = ops.reshape(ops.transpose(h, (0, 2, 1, 3)), (-1, length, channels))
        return inner(self.output_dense)(h)

    def compute_output_shape(self, x_shape, rotation_shape):
        return x_shape

    def matrix_products(self, x_shape, context_length):
        return [
            dense_product(self.projection, x_shape),
            attention_product(x_shape, x_shape[1]),
            dense_product(self.output_dense, x_shape),
        ]

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}
