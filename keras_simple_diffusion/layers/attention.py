import math

import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.backend.compilation import recompute_cheaply
from keras_simple_diffusion.backend.compilation import rematerialize
from keras_simple_diffusion.backend.fused import attend
from keras_simple_diffusion.layers.fused_layers import Dense
from keras_simple_diffusion.layers.protocol import SPLIT_INPUTS
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import attention_product
from keras_simple_diffusion.layers.protocol import dense_product
from keras_simple_diffusion.layers.protocol import height_of
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer


class _Attention(layers.Layer):
    """Base class of residual multi-head attention from a feature map.

    It normalizes queries and keys of each head, attends, and adds the
    projected result to the feature map. Subclasses project `x` and the text to
    queries, keys and values.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = check_integer("num_heads", num_heads)
        dtype = self.dtype_policy
        self.norm = layers.RMSNormalization(dtype=dtype, name="norm")
        self.norm_query = layers.LayerNormalization(dtype=dtype, name="norm_q")
        self.norm_key = layers.LayerNormalization(dtype=dtype, name="norm_k")

    def build(self, x_shape):
        channels = x_shape[-1]
        if channels % self.num_heads:
            raise InputError(
                f"`num_heads` must divide the {channels} channels of the "
                f"feature map. Received: num_heads={self.num_heads}"
            )
        self.head_dim = channels // self.num_heads
        self.norm.build(x_shape)
        self.norm_query.build((None, None, None, self.head_dim))
        self.norm_key.build((None, None, None, self.head_dim))
        self.output_dense = Dense(
            channels,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="output",
        )
        self.output_dense.build(x_shape)

    def _split(self, projected, length, count):
        """Split `(B, ..., count C)` into `count` of `(B, heads, length, d)`."""
        shape = (-1, length, count, self.num_heads, self.head_dim)
        # Heads before tokens: one matrix product for each head, without
        # strided access.
        heads = ops.transpose(ops.reshape(projected, shape), (2, 0, 3, 1, 4))
        return ops.unstack(heads, count, axis=0)

    def _attend(self, x, q, k, v, mask=None):
        """Add the attention of the heads to a feature map."""
        q = inner(self.norm_query)(q) * (1.0 / math.sqrt(self.head_dim))
        h = attend(q, inner(self.norm_key)(k), v, mask)
        h = ops.reshape(ops.transpose(h, (0, 2, 1, 3)), (-1, *x.shape[1:]))
        return x + inner(self.output_dense)(h)

    def compute_output_shape(self, x_shape, *other_shapes, **more_shapes):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SelfAttention(_Attention):
    """Residual multi-head self-attention over the pixels of a feature map.

    ```
    q, k, v = split(dense(norm(x)))
    x + zero_dense(softmax(norm(q) norm(k)^T / sqrt(d)) v)
    ```

    Queries and keys are normalized in each head, with a learned scale and
    bias. The kernel of the last dense layer is initialized with zeros. Every
    pixel attends to every other; there is no mask.

    Args:
        num_heads: int. Number of heads; must divide the channels.
        rematerialize: bool. Whether to recompute the layer in the backward
            pass instead of storing its activations. Defaults to `False`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.

    Output shape:
        The shape of `x`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), appendix
    """

    weight_layouts = {
        "qkv/kernel": SPLIT_OUTPUTS,
        "output/kernel": SPLIT_INPUTS,
    }

    def __init__(self, num_heads, rematerialize=False, **kwargs):
        super().__init__(num_heads, **kwargs)
        self.rematerialize = rematerialize

    def build(self, x_shape):
        self.projection = Dense(
            3 * x_shape[-1], dtype=self.dtype_policy, name="qkv"
        )
        self.projection.build(x_shape)
        super().build(x_shape)

    def call(self, x, training=None):
        if training and self.rematerialize:
            return rematerialize(self._transform, x)
        return self._transform(x, training)

    def _transform(self, x, training=False):
        def project(x):
            return inner(self.projection)(inner(self.norm)(x))

        projected = recompute_cheaply(training)(project, x)
        length = math.prod(x.shape[1:-1])
        return self._attend(x, *self._split(projected, length, 3))

    def matrix_products(self, x_shape, context_length):
        return [
            dense_product(self.projection, x_shape),
            attention_product(x_shape, math.prod(x_shape[1:-1])),
            dense_product(self.output_dense, x_shape),
        ]

    def get_config(self):
        return {**super().get_config(), "rematerialize": self.rematerialize}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class CrossAttention(_Attention):
    """Residual multi-head attention from pixels to the tokens of a text.

    ```
    q = dense(norm(x))
    k, v = split(dense(norm(context)))
    x + zero_dense(softmax(norm(q) norm(k)^T / sqrt(d)) v)
    ```

    As in `keras_simple_diffusion.layers.SelfAttention`, queries and keys are
    normalized in each head, and the kernel of the last dense layer is
    initialized with zeros. If all tokens are padding, the attention is zero.

    Args:
        num_heads: int. Number of heads; must divide the channels.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)` or `(B, N, C)`.
        context: float tensor of shape `(B, L, D)`, the text embeddings.
        context_mask: optional int or bool tensor of shape `(B, L)`, zero for
            padding.

    Output shape:
        The shape of `x`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), sec. 3.6
    """

    weight_layouts = {
        "query/kernel": SPLIT_OUTPUTS,
        "key_value/kernel": SPLIT_OUTPUTS,
        "output/kernel": SPLIT_INPUTS,
    }

    def __init__(self, num_heads, **kwargs):
        super().__init__(num_heads, **kwargs)
        self.norm_context = layers.RMSNormalization(
            dtype=self.dtype_policy, name="norm_context"
        )

    def build(self, x_shape, context_shape, context_mask_shape=None):
        channels, dtype = x_shape[-1], self.dtype_policy
        self.query_dense = Dense(channels, dtype=dtype, name="query")
        self.query_dense.build(x_shape)
        self.context_dense = Dense(2 * channels, dtype=dtype, name="key_value")
        self.context_dense.build(context_shape)
        self.norm_context.build(context_shape)
        super().build(x_shape)

    def call(self, x, context, context_mask=None):
        q = inner(self.query_dense)(inner(self.norm)(x))
        (q,) = self._split(q, math.prod(x.shape[1:-1]), 1)
        kv = inner(self.context_dense)(inner(self.norm_context)(context))
        k, v = self._split(kv, ops.shape(context)[1], 2)
        if context_mask is not None:
            context_mask = ops.cast(context_mask, "bool")
        return self._attend(x, q, k, v, context_mask)

    def matrix_products(self, x_shape, context_length):
        context_shape = (None, context_length, None)
        height = height_of(x_shape)
        return [
            dense_product(self.query_dense, x_shape),
            dense_product(self.context_dense, context_shape, height),
            attention_product(x_shape, context_length),
            dense_product(self.output_dense, x_shape),
        ]
