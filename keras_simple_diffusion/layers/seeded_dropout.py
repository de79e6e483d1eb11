import keras
from keras import ops

from keras_simple_diffusion.backend import replicas
from keras_simple_diffusion.backend.fused import dropout_mask
from keras_simple_diffusion.utils.errors import check_rate


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SeededDropout(keras.layers.Layer):
    """Dropout with a random state that can be saved and restored.

    On every backend the mask depends only on the state of the layer's
    `SeedGenerator`, a variable with a fixed path, so a resumed run draws the
    same masks as an uninterrupted one. On PyTorch `keras.layers.Dropout`
    without a seed uses PyTorch's global generator instead.

    `draw_seed`, `draw_mask` and `drop` are the parts of `call`. A block that is
    computed twice must drop the same features both times: if it is recomputed
    as a whole, it draws the seed outside of the recomputed part, and otherwise
    the mask.

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
        return self.drop(x, self.draw_mask(x, self.draw_seed(training)))

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

    def draw_mask(self, x, seed):
        """Draw the features that are kept.

        Args:
            x: float tensor, shaped as the features.
            seed: result of `draw_seed`.

        Returns:
            A bool tensor of the shape of `x`, or `None` if nothing is dropped.
        """
        if seed is None:
            return None
        # The mask of the whole batch, of which each copy takes its part.
        size, *rest = ops.shape(x)
        shape = (replicas.whole_size(size), *rest)
        mask = dropout_mask(shape, x.dtype, self.rate, seed)
        return replicas.own_part(mask)

    def drop(self, x, mask):
        """Apply a mask.

        Args:
            x: float tensor.
            mask: result of `draw_mask`.

        Returns:
            A tensor of the shape of `x`.
        """
        if mask is None:
            return x
        return ops.where(mask, x / (1.0 - self.rate), 0.0)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
