import keras
from keras import ops

from keras_simple_diffusion.layers.protocol import COPIED
from keras_simple_diffusion.utils.errors import check_integer


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ClassTokens(keras.layers.Layer):
    """Tokens of the class before those of the patches.

    Every token is the vector of the class plus a learned vector of its own.

    Args:
        num_tokens: int. Number of tokens.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, N, C)`.
        label: float tensor of shape `(B, C)`, the vector of the class.

    Output shape:
        `(B, num_tokens + N, C)`.

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720), appendix A
    """

    weight_layouts = {"positions": COPIED}

    def __init__(self, num_tokens, **kwargs):
        super().__init__(**kwargs)
        self.num_tokens = check_integer("num_tokens", num_tokens)

    def build(self, x_shape, label_shape):
        self.positions = self.add_weight(
            name="positions",
            shape=(self.num_tokens, x_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, x, label):
        tokens = ops.expand_dims(label, 1) + self.positions
        return ops.concatenate([tokens, x], axis=1)

    def compute_output_shape(self, x_shape, label_shape):
        return (x_shape[0], self.num_tokens + x_shape[1], x_shape[2])

    def matrix_products(self, x_shape, context_length):
        return []

    def get_config(self):
        return {**super().get_config(), "num_tokens": self.num_tokens}
