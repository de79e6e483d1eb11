import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.layers.attention import SelfAttention
from keras_simple_diffusion.layers.feature_modulation import FeatureModulation


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class TransformerBlock(layers.Layer):
    """Transformer block of the U-ViT, perceptron first.

    ```
    h = silu(dense(norm(x)))                        # 4 C wide
    h = h * (1 + scale) + shift                     # from the embedding
    x = x + zero_dense(dropout(h))
    x = self_attention(x)                           # residual
    ```

    The conditioning enters the perceptron only, at its hidden width.

    Args:
        num_heads: int. Number of attention heads; must divide the channels.
        dropout: float. Dropout rate in the perceptron. Defaults to `0.0`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.
        embedding: float tensor of shape `(B, E)`, see
            `keras_simple_diffusion.layers.Conditioning`.

    Output shape:
        That of `x`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), appendix
    """

    def __init__(self, num_heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = dropout
        dtype = self.dtype_policy
        self.norm = layers.RMSNormalization(dtype=dtype, name="norm")
        self.modulation = FeatureModulation(dtype=dtype, name="modulation")
        self.dropout = layers.Dropout(dropout, dtype=dtype, name="dropout")
        self.attention = SelfAttention(num_heads, dtype=dtype, name="attention")

    def build(self, x_shape, embedding_shape):
        channels = x_shape[-1]
        hidden_shape = (*x_shape[:-1], 4 * channels)
        self.hidden_dense = layers.Dense(
            4 * channels, dtype=self.dtype_policy, name="hidden"
        )
        self.output_dense = layers.Dense(
            channels,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="output",
        )
        self.norm.build(x_shape)
        self.hidden_dense.build(x_shape)
        self.modulation.build(hidden_shape, embedding_shape)
        self.output_dense.build(hidden_shape)
        self.attention.build(x_shape)

    def call(self, x, embedding, training=None):
        h = ops.silu(self.hidden_dense(self.norm(x)))
        h = self.dropout(self.modulation(h, embedding), training=training)
        return self.attention(x + self.output_dense(h))

    def compute_output_shape(self, x_shape, embedding_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout_rate,
        }
