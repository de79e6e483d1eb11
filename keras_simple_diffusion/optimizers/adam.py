import keras
from keras import ops

from keras_simple_diffusion.ops.fused import update_by_adam
from keras_simple_diffusion.utils.backend import runs_eagerly


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
