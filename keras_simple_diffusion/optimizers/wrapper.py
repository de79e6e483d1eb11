"""Optimizers around optimizers: the base class, and finding one of a kind."""

import keras
from keras import ops

from keras_simple_diffusion.backend.replicas import clip_as_one
from keras_simple_diffusion.backend.replicas import whole_gradients


class OptimizerWrapper(keras.optimizers.Optimizer):
    """Base class of optimizers that observe the steps of another optimizer.

    A wrapper changes neither gradients nor weights. A subclass adds variables
    in `build`, with `add_own_variable` before `super().build`, and updates
    them in `observe`, right after each step of the inner optimizer and inside
    the compiled training step.

    Args:
        inner_optimizer: the `keras.optimizers.Optimizer` that updates the
            weights.
        name: string. Prefix of the paths of the variables, which should be
            the same in every process.
    """

    def __init__(self, inner_optimizer, name):
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer

    def build(self, variables):
        if self.built:
            return
        self.inner_optimizer.build(variables)
        super().build(variables)

    def observe(self, grads, is_update):
        """Update the wrapper's own variables after a step.

        Args:
            grads: list of gradients of the whole batch, or `None`s.
            is_update: bool tensor. Whether the step changed the weights; with
                gradient accumulation only every last micro-batch does.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(list(trainable_variables))
        before = ops.copy(self.iterations)
        # Layers in 16 bits and others make gradients of several types, which
        # TensorFlow does not mix in their norm.
        grads = [
            None if grad is None else ops.cast(grad, "float32")
            for grad in whole_gradients(grads)
        ]
        shares = clip_as_one(self.inner_optimizer, grads)
        self.inner_optimizer.apply(shares, trainable_variables)
        self.observe(grads, ops.not_equal(self.iterations, before))

    def add_own_variable(
        self, shape, dtype, name, initializer="zeros", layout=None
    ):
        """Add a variable with the same value on every device.

        Args:
            shape: tuple of ints.
            dtype: string.
            name: string.
            initializer: Keras initializer. Defaults to `"zeros"`.
            layout: layout that splits the variable over devices, or `None`.

        Returns:
            A `keras.Variable`.
        """
        return self.add_variable(
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            aggregation="only_first_replica",
            layout=layout,
            name=name,
        )

    @property
    def variables(self):
        return super().variables + self.inner_optimizer.variables

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
        # Keras saves the inner optimizer separately.
        for i, variable in enumerate(super().variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store):
        variables = super().variables
        if len(store.keys()) != len(variables):
            # It was saved before the first step, without variables.
            return
        for i, variable in enumerate(variables):
            variable.assign(store[str(i)])

    def get_config(self):
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["inner_optimizer"] = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        return cls(**config)


def unwrap(optimizer):
    """List an optimizer and its inner optimizers, outermost first.

    Args:
        optimizer: a `keras.optimizers.Optimizer` or `None`.

    Returns:
        A list of `keras.optimizers.Optimizer`s.
    """
    chain = []
    while optimizer is not None:
        chain.append(optimizer)
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return chain


def find_optimizer(optimizer, kind):
    """Find an optimizer of a class among an optimizer and its inner ones.

    Args:
        optimizer: a `keras.optimizers.Optimizer` or `None`.
        kind: class, such as
            `keras_simple_diffusion.optimizers.AveragedOptimizer`.

    Returns:
        The outermost optimizer of that class, or `None`.
    """
    return next((o for o in unwrap(optimizer) if isinstance(o, kind)), None)
