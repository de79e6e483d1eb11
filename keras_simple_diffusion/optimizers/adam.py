"""Adam, AdamW and Muon of Keras; weight decay applies to kernels only."""

import keras
from keras import ops

from keras_simple_diffusion.backend.fused import has_fused_adam
from keras_simple_diffusion.backend.fused import update_by_adam
from keras_simple_diffusion.backend.keras_internals import OwnUpdateStep
from keras_simple_diffusion.backend.keras_internals import adam_moments

# Parts of the names of weights that are vectors, although they have two axes.
_VECTORS = ("embedding", "positions")


class _FusedUpdate(OwnUpdateStep):
    """Mixin for Adam and AdamW: one kernel updates all weights on PyTorch."""

    def update_all(self, gradients, variables, learning_rate):
        if not has_fused_adam() or self.amsgrad:
            super().update_all(gradients, variables, learning_rate)
            return
        # The kernel does not correct the bias of the moments.
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(learning_rate, "float32")
        rate = rate * ops.sqrt(1.0 - self.beta_2**step)
        update_by_adam(
            variables,
            gradients,
            *adam_moments(self, variables),
            rate / (1.0 - self.beta_1**step),
            (self.beta_1, self.beta_2),
            self.epsilon,
        )


class _KernelDecay:
    """Mixin that excludes norms, biases and embeddings from weight decay.

    A layer marks an embedding by the name of the weight, which contains
    "embedding" or "positions". Keras does not save
    `exclude_from_weight_decay` with an optimizer, so the class itself calls it.
    """

    def build(self, variables):
        if self.built:
            return
        self.exclude_from_weight_decay(
            [
                variable
                for variable in variables
                if len(variable.shape) < 2
                or any(name in variable.name for name in _VECTORS)
            ]
        )
        super().build(variables)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Adam(_FusedUpdate, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with a fused update on PyTorch.

    Args:
        *args: as for `keras.optimizers.Adam`.
        **kwargs: as for `keras.optimizers.Adam`.

    References:
        - [Kingma and Ba, 2014](https://arxiv.org/abs/1412.6980)
    """


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class AdamW(_KernelDecay, _FusedUpdate, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with weight decay of the kernels only.

    Norms, biases and embeddings do not decay. On PyTorch the update is fused.

    Args:
        *args: as for `keras.optimizers.AdamW`.
        **kwargs: as for `keras.optimizers.AdamW`.

    References:
        - [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1711.05101)
    """


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Muon(_KernelDecay, keras.optimizers.Muon):
    """`keras.optimizers.Muon` with weight decay of the kernels only.

    Muon updates matrices: the dense layers of transformer blocks, of the
    conditioning and between the levels of a network. AdamW updates everything
    else, convolutions and the first and last layers included.

    Args:
        *args: as for `keras.optimizers.Muon`.
        **kwargs: as for `keras.optimizers.Muon`. `exclude_layers` defaults to
            the embeddings and the first and last layers of the networks.

    References:
        - [Liu et al., 2025](https://arxiv.org/abs/2502.16982)
    """

    def __init__(self, *args, **kwargs):
        ends = ("patch_dense", "output_dense")
        kwargs.setdefault("exclude_layers", [*_VECTORS, *ends])
        super().__init__(*args, **kwargs)
