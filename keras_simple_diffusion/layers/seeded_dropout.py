import keras

from keras_simple_diffusion.backend.keras_internals import FixedSeed


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SeededDropout(keras.layers.Layer):
    """Dropout whose mask is a function of a state that can be saved.

    `keras.layers.Dropout` without a seed draws from a random number generator
    of PyTorch's own there, so that a run that was interrupted could not go on
    as if nothing had happened. Here the mask follows from the layer's
    `SeedGenerator`, a variable with a fixed path, on every backend.

    The seed can also be drawn on its own. A rematerialised block is computed
    twice and must see the same mask both times, so it draws the seed outside
    of what is computed again.

    Args:
        rate: float. Share of the features that is dropped, in `[0, 1)`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor.

    Output shape:
        That of `x`.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def build(self, x_shape):
        if self.rate > 0.0:
            # Made here, within the layer's path.
            self.seed_generator = keras.random.SeedGenerator(name="seed")

    def call(self, x, training=None):
        return self.drop(x, self.draw_seed(training))

    def draw_seed(self, training):
        """Draw the seed of one mask.

        Args:
            training: bool or `None`.

        Returns:
            An int tensor of shape `(2,)`, or `None` where nothing is dropped.
        """
        if not training or self.rate == 0.0:
            return None
        return self.seed_generator.next()

    def drop(self, x, seed):
        """Drop the features that a seed picks.

        Args:
            x: float tensor.
            seed: what `draw_seed` returned.

        Returns:
            A tensor shaped like `x`.
        """
        if seed is None:
            return x
        return keras.random.dropout(x, self.rate, seed=FixedSeed(seed))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
