import keras
from keras import ops

from keras_simple_diffusion.backend.keras_internals import trained_variables
from keras_simple_diffusion.backend.replicas import held
from keras_simple_diffusion.backend.replicas import sum_over_parts
from keras_simple_diffusion.optimizers.wrapper import OptimizerWrapper


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class WatchedOptimizer(OptimizerWrapper):
    """Optimizer that records the norms of gradients and weights.

    It wraps another optimizer and updates three scalars inside each compiled
    step, without waiting for the device:

    - `gradient_norm`: the norm of the whole gradient of the last step before
      clipping; with gradient accumulation, of the last micro-batch.
    - `parameter_norm`: the norm of all trained weights after the last step.
    - `first_bad_step`: the index of the first step with a gradient, or with
      weights after it, that are not finite, and -1 before. A loss that is not
      finite has such gradients. Steps that loss scaling skips are not counted.

    Args:
        inner_optimizer: the `keras.optimizers.Optimizer` that makes the steps.
        name: string. Defaults to `"watched_optimizer"`.

    Example:
    ```python
    model.compile(keras.optimizers.Adam(1e-4), watch=True)
    model.fit(data)
    watched = keras_simple_diffusion.optimizers.find_optimizer(
        model.optimizer, keras_simple_diffusion.optimizers.WatchedOptimizer
    )
    watched.report()
    ```
    """

    def __init__(self, inner_optimizer, name="watched_optimizer"):
        super().__init__(inner_optimizer, name)

    def build(self, variables):
        if self.built:
            return
        self.num_steps = self.add_own_variable((), "int32", "num_steps")
        self.first_bad_step = self.add_own_variable(
            (), "int32", "first_bad_step", keras.initializers.Constant(-1)
        )
        self.gradient_norm = self.add_own_variable(
            (), "float32", "gradient_norm"
        )
        self.parameter_norm = self.add_own_variable(
            (), "float32", "parameter_norm"
        )
        super().build(variables)

    def observe(self, grads, is_update):
        grads = [grad for grad in grads if grad is not None]
        self.gradient_norm.assign(global_norm(grads))
        norm = global_norm(trained_variables(self))
        self.parameter_norm.assign(norm)
        # The gradient's norm may overflow although all gradients are finite.
        finite = [ops.all(ops.isfinite(grad)) for grad in held(grads)]
        finite.append(ops.isfinite(norm))
        is_bad = ops.logical_not(ops.all(ops.stack(finite)))
        is_bad = sum_over_parts(ops.cast(is_bad, "float32")) > 0
        step = ops.convert_to_tensor(self.num_steps)
        known = ops.convert_to_tensor(self.first_bad_step)
        is_first = ops.logical_and(is_bad, known < 0)
        self.first_bad_step.assign(ops.where(is_first, step, known))
        self.num_steps.assign(step + 1)

    def report(self):
        """Read the three scalars, waiting for the device.

        Returns:
            A dict from their names to Python numbers.
        """
        return {
            "gradient_norm": float(ops.convert_to_numpy(self.gradient_norm)),
            "parameter_norm": float(ops.convert_to_numpy(self.parameter_norm)),
            "first_bad_step": int(ops.convert_to_numpy(self.first_bad_step)),
        }


def global_norm(tensors):
    """Compute the Euclidean norm over all tensors, in float32.

    Args:
        tensors: list of float tensors.

    Returns:
        A float32 scalar tensor.
    """
    squares = [
        ops.sum(ops.square(ops.cast(x, "float32"))) for x in held(tensors)
    ]
    return ops.sqrt(sum_over_parts(ops.sum(ops.stack(squares))))
