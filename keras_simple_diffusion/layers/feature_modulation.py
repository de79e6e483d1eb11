import keras
from keras import ops

from keras_simple_diffusion.layers.affine import Dense
from keras_simple_diffusion.layers.inner import inner
from keras_simple_diffusion.ops.fused import scale_and_shift


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class FeatureModulation(keras.layers.Layer):
    """Feature-wise scale and shift from the conditioning (FiLM).

    `x (1 + scale) + shift`, where one dense layer makes both vectors.

    Args:
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.
        embedding: float tensor of shape `(B, E)`.

    Output shape:
        That of `x`.
    """

    def build(self, x_shape, embedding_shape):
        self.projection = Dense(
            2 * x_shape[-1], dtype=self.dtype_policy, name="projection"
        )
        self.projection.build(embedding_shape)

    def call(self, x, embedding):
        vectors = inner(self.projection)(embedding)
        vectors = ops.expand_dims(ops.expand_dims(vectors, 1), 1)
        scale, shift = ops.split(vectors, 2, axis=-1)
        return scale_and_shift(x, scale, shift)

    def compute_output_shape(self, x_shape, embedding_shape):
        return x_shape
