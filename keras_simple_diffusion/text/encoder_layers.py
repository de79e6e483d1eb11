"""The layers of `TextTransformer`.

They compute the same as those of keras_hub, whose import takes seconds, and
store their weights under the same names.
"""

import keras
from keras import ops


class TokenAndPositionEmbedding(keras.layers.Layer):
    """Sum of the embeddings of tokens and of their positions.

    Args:
        vocabulary_size: int. Number of tokens.
        sequence_length: int. Number of positions.
        embedding_dim: int. Width of the embeddings.
        **kwargs: base layer keyword arguments.

    Call arguments:
        token_ids: int tensor of shape `(B, sequence_length)`.

    Output shape:
        `(B, sequence_length, embedding_dim)`.
    """

    def __init__(
        self, vocabulary_size, sequence_length, embedding_dim, **kwargs
    ):
        super().__init__(**kwargs)
        self.sequence_length = sequence_length
        self.token_embedding = keras.layers.Embedding(
            vocabulary_size,
            embedding_dim,
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.position_embedding = keras.layers.Embedding(
            sequence_length,
            embedding_dim,
            dtype=self.dtype_policy,
            name="position_embedding",
        )

    def build(self, input_shape):
        self.token_embedding.build(input_shape)
        self.position_embedding.build((self.sequence_length,))
        self.built = True

    def call(self, token_ids):
        positions = ops.arange(self.sequence_length, dtype="int32")
        return self.token_embedding(token_ids) + self.position_embedding(
            positions
        )


class TransformerEncoder(keras.layers.Layer):
    """Transformer layer, with norms before attention and before the MLP.

    The MLP has one hidden layer with ReLU, four times as wide.

    Args:
        num_heads: int. Number of attention heads.
        **kwargs: base layer keyword arguments.

    Call arguments:
        tokens: float tensor of shape `(B, L, D)`.
        padding_mask: int tensor of shape `(B, L)`, one for tokens and zero for
            padding, which no token attends to.

    Output shape:
        `(B, L, D)`.

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)
        - [Xiong et al., 2020](https://arxiv.org/abs/2002.04745), the norms
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        width, common = input_shape[-1], {"dtype": self.dtype_policy}
        norm = {"epsilon": 1e-5, **common}
        self._self_attention_layer = keras.layers.MultiHeadAttention(
            self.num_heads,
            width // self.num_heads,
            name="self_attention_layer",
            **common,
        )
        self._self_attention_layer_norm = keras.layers.LayerNormalization(
            name="self_attention_layer_norm", **norm
        )
        self._feedforward_layer_norm = keras.layers.LayerNormalization(
            name="feedforward_layer_norm", **norm
        )
        self._feedforward_intermediate_dense = keras.layers.Dense(
            4 * width,
            "relu",
            name="feedforward_intermediate_dense",
            **common,
        )
        self._feedforward_output_dense = keras.layers.Dense(
            width, name="feedforward_output_dense", **common
        )
        self._self_attention_layer.build(input_shape, input_shape)
        self._self_attention_layer_norm.build(input_shape)
        self._feedforward_layer_norm.build(input_shape)
        self._feedforward_intermediate_dense.build(input_shape)
        self._feedforward_output_dense.build((*input_shape[:-1], 4 * width))
        self.built = True

    def call(self, tokens, padding_mask):
        x = self._self_attention_layer_norm(tokens)
        mask = ops.expand_dims(padding_mask, 1)
        x = self._self_attention_layer(x, x, attention_mask=mask)
        tokens = tokens + x
        x = self._feedforward_layer_norm(tokens)
        x = self._feedforward_intermediate_dense(x)
        return tokens + self._feedforward_output_dense(x)
