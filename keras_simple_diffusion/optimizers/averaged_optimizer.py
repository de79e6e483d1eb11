import contextlib

import keras
from keras import ops


def wrap_optimizer(optimizer, decay, scale_loss):
    """Add averaging of the weights, and loss scaling around it.

    The average belongs inside, where steps that the scaling skips do not
    count.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, wrapped already or not.
        decay: float, see `AveragedOptimizer`, or `None` for no average.
        scale_loss: bool. Whether the loss must be scaled.

    Returns:
        A tuple of the optimizer and, within it, the `AveragedOptimizer` or
        `None`.
    """
    loss_scale = keras.optimizers.LossScaleOptimizer
    scaling = averaged = None
    if isinstance(optimizer, loss_scale):
        scaling, optimizer = optimizer, optimizer.inner_optimizer
    if decay is not None:
        if not isinstance(optimizer, AveragedOptimizer):
            optimizer = AveragedOptimizer(optimizer, decay=decay)
        averaged = optimizer
    if scaling is not None:
        optimizer = loss_scale(
            optimizer, scaling.initial_scale, scaling.dynamic_growth_steps
        )
    elif scale_loss:
        optimizer = loss_scale(optimizer)
    return optimizer, averaged


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class AveragedOptimizer(keras.optimizers.Optimizer):
    """Optimizer that keeps an exponential moving average of the weights.

    It wraps another optimizer and updates the average right after it, inside
    the compiled training step, once an update: micro-batches of gradient
    accumulation do not count. Unlike `use_ema=True` of the Keras optimizers
    it never overwrites the weights with their average.

    After update `n = 1, 2, ...`

    ```
    average = d average + (1 - d) weights,  d = min(decay, (n - 1) / (n + 9))
    ```

    so the first update copies the weights, and while `n` is small the average
    covers about the last tenth of the training so far.

    Args:
        inner_optimizer: the `keras.optimizers.Optimizer` that makes the steps.
        decay: float. The decay once warmed up, in `[0, 1)`. Defaults to
            `0.9999`, the paper's.
        name: optional string.

    Example:
    ```python
    optimizer = keras_simple_diffusion.optimizers.AveragedOptimizer(
        keras.optimizers.Adam(1e-4), decay=0.9999
    )
    ```
    """

    def __init__(self, inner_optimizer, decay=0.9999, name=None):
        if not 0.0 <= decay < 1.0:
            raise ValueError(
                f"`decay` must be in [0, 1). Received: decay={decay}"
            )
        if getattr(inner_optimizer, "use_ema", False):
            raise ValueError(
                "`inner_optimizer` must not average as well: its `use_ema` "
                "overwrites the weights at the end of `fit`. Received: "
                f"inner_optimizer={inner_optimizer} with use_ema=True"
            )
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.decay = decay

    def build(self, variables):
        if self.built:
            return
        self.inner_optimizer.build(variables)
        self.num_averaged = self.add_variable(
            shape=(), dtype="int32", name="num_averaged"
        )
        self.averages = [
            self.add_variable(
                shape=variable.shape,
                dtype="float32",
                layout=getattr(variable, "_layout", None),
                name=f"{variable.path.replace('/', '_')}_average",
            )
            for variable in variables
        ]
        super().build(variables)

    @property
    def variables(self):
        return super().variables + self.inner_optimizer.variables

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(list(trainable_variables))
        if self.inner_optimizer.gradient_accumulation_steps is None:
            self.inner_optimizer.apply(grads, trainable_variables)
            self._update_averages(is_update=True)
            return
        before = ops.copy(self.inner_optimizer.iterations)
        self.inner_optimizer.apply(grads, trainable_variables)
        self._update_averages(self.inner_optimizer.iterations != before)

    def _update_averages(self, is_update):
        count = self.num_averaged + ops.cast(is_update, "int32")
        self.num_averaged.assign(count)
        count = ops.cast(count, "float32")
        decay = ops.minimum((count - 1.0) / (count + 9.0), self.decay)
        gain = ops.where(is_update, 1.0 - decay, 0.0)
        for weight, average in zip(
            self._trainable_variables, self.averages, strict=True
        ):
            change = ops.cast(weight, "float32") - average
            average.assign(average + gain * change)

    def has_averages(self):
        """Whether there has been an update, and so an average."""
        return self.built and int(ops.convert_to_numpy(self.num_averaged)) > 0

    def copy_averages(self, other):
        """Take over the averages of another such optimizer.

        Weights that it did not train start from their current values.
        """
        self.num_averaged.assign(ops.copy(other.num_averaged))
        sources = {
            id(weight): average
            for weight, average in zip(
                other._trainable_variables, other.averages, strict=True
            )
        }
        for weight, average in zip(
            self._trainable_variables, self.averages, strict=True
        ):
            source = sources.get(id(weight), weight)
            average.assign(ops.cast(ops.copy(source), "float32"))

    @contextlib.contextmanager
    def averaged_weights(self):
        """Context in which the weights are replaced by their averages."""
        weights = self._trainable_variables
        # Copies, so that no weight shares its memory with an average: JAX
        # would refuse to donate it twice.
        kept = [ops.stop_gradient(ops.copy(weight)) for weight in weights]
        for weight, average in zip(weights, self.averages, strict=True):
            weight.assign(ops.cast(ops.copy(average), weight.dtype))
        try:
            yield
        finally:
            for weight, value in zip(weights, kept, strict=True):
                weight.assign(value)

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def save_own_variables(self, store):
        # Keras saves the inner optimizer by itself.
        for i, variable in enumerate(super().variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store):
        variables = super().variables
        if len(store.keys()) != len(variables):
            # Saved before the first step: there is no average yet.
            return
        for i, variable in enumerate(variables):
            variable.assign(store[str(i)])

    def get_config(self):
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            "decay": self.decay,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["inner_optimizer"] = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        return cls(**config)
