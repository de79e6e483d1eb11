import random

import keras
from keras import layers


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SeededDropout(layers.Dropout):
    """Dropout whose mask is a function of a state that can be saved.

    `keras.layers.Dropout` without a seed draws from a random number generator
    of PyTorch's own there, so that a run that was interrupted could not go on
    as if nothing had happened. With a seed the mask follows from the layer's
    `SeedGenerator`, a variable like any other, on every backend.

    Args:
        rate: float. Share of the features that is dropped, in `[0, 1]`.
        seed: int or `None`. Defaults to one drawn from Python's random
            numbers, which `keras.utils.set_random_seed` sets.
        **kwargs: base layer keyword arguments.
    """

    def __init__(self, rate, seed=None, **kwargs):
        if seed is None:
            seed = random.randrange(2**30)
        super().__init__(rate, seed=seed, **kwargs)
