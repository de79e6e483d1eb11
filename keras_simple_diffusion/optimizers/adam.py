"""Optimizers whose weight decay leaves all but the kernels alone."""

import keras
from keras import ops

from keras_simple_diffusion.backend.choice import runs_eagerly
from keras_simple_diffusion.backend.fused import update_by_adam


class FusedUpdate:
    """Mixin for Adam and AdamW: one kernel where operations run one by one."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if not runs_eagerly() or self.amsgrad:
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )
            return
        indices = [self._get_variable_index(v) for v in trainable_variables]
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(learning_rate, "float32")
        rate = rate * ops.sqrt(1.0 - self.beta_2**step)
        update_by_adam(
            trainable_variables,
            grads,
            [self._momentums[i] for i in indices],
            [self._velocities[i] for i in indices],
            rate / (1.0 - self.beta_1**step),
            (self.beta_1, self.beta_2),
            self.epsilon,
        )


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Adam(FusedUpdate, keras.optimizers.Adam):
    """`keras.optimizers.Adam`, whose update on PyTorch is one kernel.

    Args:
        *args: as for `keras.optimizers.Adam`.
        **kwargs: as for `keras.optimizers.Adam`.

    References:
        - [Kingma and Ba, 2014](https://arxiv.org/abs/1412.6980)
    """


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
