import keras


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class PositionEmbedding2D(keras.layers.Layer):
    """Learned vector for every pixel of a feature map, added to it.

    Args:
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`, with fixed `H`, `W` and `C`.

    Output shape:
        That of the input.
    """

    def build(self, x_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=x_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.01),
        )

    def call(self, x):
        return x + self.embedding
