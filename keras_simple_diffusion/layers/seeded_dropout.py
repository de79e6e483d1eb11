import keras
from keras import ops

from keras_simple_diffusion.backend import replicas
from keras_simple_diffusion.backend.keras_internals import FixedSeed
from keras_simple_diffusion.utils.errors import check_rate


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SeededDropout(keras.layers.Layer):
    """Dropout with a random state that can be saved and restored.

    On every backend the mask depends only on the state of the layer's
    `SeedGenerator`, a variable with a fixed path, so a resumed run draws the
    same masks as an uninterrupted one. On PyTorch `keras.layers.Dropout`
    without a seed uses PyTorch's global generator instead.

    `draw_seed` and `drop` are the two halves of `call`. A rematerialized block
    is computed twice and must drop the same features both times, so it draws
    the seed once, outside of the recomputed part.

    Args:
        rate: float. Fraction of the features to drop, in `[0, 1)`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor.

    Output shape:
        The shape of `x`.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate("rate", rate)

    def build(self, x_shape):
        if self.rate > 0.0:
            # In `build`, so that the variable is named after the layer.
            self.seed_generator = keras.random.SeedGenerator(name="seed")

    def call(self, x, training=None):
        return self.drop(x, self.draw_seed(training))

    def draw_seed(self, training):
        """Draw the seed of a mask, and advance the state.

        Args:
            training: bool or `None`.

        Returns:
            An int tensor of shape `(2,)`, or `None` if nothing is dropped.
        """
        if not training or self.rate == 0.0:
            return None
        return self.seed_generator.next()

    def drop(self, x, seed):
        """Apply the mask of a seed.

        Args:
            x: float tensor.
            seed: result of `draw_seed`.

        Returns:
            A tensor of the shape of `x`.
        """
        if seed is None:
            return x
        _, num_copies = replicas.replica()
        if num_copies == 1:
            return keras.random.dropout(x, self.rate, seed=FixedSeed(seed))
        # The mask of the whole batch, of which each copy takes its part.
        size, *rest = ops.shape(x)
        whole = ops.ones((replicas.whole_size(size), *rest), x.dtype)
        mask = keras.random.dropout(whole, self.rate, seed=FixedSeed(seed))
        return x * replicas.own_part(mask)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
