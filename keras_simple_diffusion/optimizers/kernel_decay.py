"""Optimizers whose weight decay leaves all but the kernels alone."""

import keras

from keras_simple_diffusion.optimizers.adam import FusedUpdate


class _KernelDecay:
    """Mixin that keeps norms, biases and embeddings from decaying.

    Keras would forget `exclude_from_weight_decay` when it loads an optimizer,
    so it is a matter of the class.
    """

    def build(self, variables):
        if self.built:
            return
        self.exclude_from_weight_decay(
            [
                variable
                for variable in variables
                if len(variable.shape) < 2 or "embedding" in variable.path
            ]
        )
        super().build(variables)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class AdamW(_KernelDecay, FusedUpdate, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with weight decay of the kernels only.

    Norms, biases and embeddings do not decay.

    Args:
        *args: as for `keras.optimizers.AdamW`.
        **kwargs: as for `keras.optimizers.AdamW`.
    """


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Muon(_KernelDecay, keras.optimizers.Muon):
    """`keras.optimizers.Muon` with weight decay of the kernels only.

    Muon makes the steps of matrices: the dense layers of transformer blocks
    and conditioning. All else, convolutions among it, gets those of AdamW.

    Args:
        *args: as for `keras.optimizers.Muon`.
        **kwargs: as for `keras.optimizers.Muon`.

    References:
        - [Liu et al., 2025](https://arxiv.org/abs/2502.16982)
    """
