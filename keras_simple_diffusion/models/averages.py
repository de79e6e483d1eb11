"""Averages of a model's weights, in use in place of the weights."""

import contextlib
import warnings

from keras import ops

from keras_simple_diffusion.backend import replicas
from keras_simple_diffusion.backend.keras_internals import trained_variables
from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.wrapper import find_optimizer
from keras_simple_diffusion.utils.errors import InputError


class WeightList(list):
    """List of the weights of a model that carries their averages along.

    Attributes:
        averages: list of arrays, or `None` for weights without averages.
    """

    averages = None


class Averages:
    """Averages that a model's optimizer keeps of its weights.

    They belong to the weights that were trained. If other weights take the
    place of these, the averages are forgotten, with a warning, and the weights
    are used themselves.

    Args:
        model: a `DenoisingTrainer`.
    """

    def __init__(self, model):
        self.model = model
        self._num_loads = 0
        self._is_in_place = False

    @property
    def optimizer(self):
        """The model's `AveragedOptimizer`, or `None`."""
        optimizer = getattr(self.model, "optimizer", None)
        return find_optimizer(optimizer, AveragedOptimizer)

    def exist(self):
        """Return `True` if there are averages of the model's weights."""
        num_loads = getattr(self.model.backbone, "num_loads", 0)
        is_stale = self._num_loads != num_loads
        self._num_loads = num_loads
        optimizer = self.optimizer
        if optimizer is None or not optimizer.built:
            return False
        (count,) = self.model.values_of([optimizer.num_averaged])
        if not int(ops.convert_to_numpy(count)):
            return False
        # Quantization, for one, exchanges variables.
        own = {id(variable) for variable in self.model.variables}
        is_stale |= any(id(v) not in own for v in trained_variables(optimizer))
        if is_stale:
            self.forget()
        return not is_stale

    def hand_over(self, optimizer):
        """Give the averages to an optimizer that replaces the model's.

        Args:
            optimizer: a `keras.optimizers.Optimizer`.
        """
        old = self.optimizer
        new = find_optimizer(optimizer, AveragedOptimizer)
        if new is None or new is old or not self.exist():
            return
        self.model.parallel_step.build(new)
        new.copy_averages(old)
        # What was frozen meanwhile keeps the average, which draws.
        trained = {id(weight) for weight in self.model.trainable_variables}
        frozen = [
            each for each in self.model.weights if id(each) not in trained
        ]
        averages = old.replace_by_averages(frozen)
        for weight, average in zip(frozen, averages, strict=True):
            if average is not weight:
                weight.assign(ops.cast(average, weight.dtype))

    def forget(self):
        """Forget the averages after a change of the weights, with a warning."""
        if self.optimizer is not None and self.optimizer.has_averages():
            self.optimizer.forget()
            self._warn()

    @contextlib.contextmanager
    def being_loaded(self):
        """Context in which weights are loaded, and perhaps their averages."""
        if self.optimizer is None:
            yield
            return
        count = self.optimizer.num_averaged
        before = ops.convert_to_numpy(count)
        self.optimizer.forget()
        try:
            yield
        except BaseException:
            count.assign(before)
            raise
        if not self.optimizer.has_averages():
            self._warn()

    def _warn(self):
        warnings.warn(
            "The new weights come without averages. `generate` uses these "
            "weights until training has averaged them anew. Presets, `.keras` "
            "files and the weights of trained models hold the averages.",
            stacklevel=5,
        )

    def get_with(self, weights):
        """Return a list of weights as a `WeightList` with the averages.

        Args:
            weights: list of arrays, the current weights of the model.
        """
        weights = WeightList(weights)
        if self.exist():
            weights.averages = [
                ops.convert_to_numpy(variable)
                for variable in self.optimizer.average_variables
            ]
        return weights

    def set_from(self, weights):
        """Take over the averages of weights that the model has been given.

        Args:
            weights: list of arrays. Without averages, those of the model are
                forgotten.
        """
        arrays = self._averages_for(weights)
        if arrays is None:
            self.forget()
            return
        variables = self.optimizer.average_variables
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def check(self, weights):
        """Check that the model can take over the averages of weights.

        Args:
            weights: see `set_from`.

        Raises:
            InputError: if the model keeps others.
        """
        arrays = self._averages_for(weights)
        if arrays is None:
            return
        received = [array.shape for array in arrays]
        expected = [each.shape for each in self.optimizer.average_variables]
        if [*map(tuple, received)] != [*map(tuple, expected)]:
            raise InputError(
                "The weights carry other averages than the model keeps. "
                f"Expected: {len(self.optimizer.averages)} of each trained "
                f"weight, {len(expected) - 1} arrays. Received: "
                f"{len(received) - 1} arrays. Compile both models with the "
                "same `ema_decay`, and train the same weights of them; or pass "
                "`list(weights)`, without averages."
            )

    def _averages_for(self, weights):
        """Return the averages of weights that the model has a place for."""
        if self.optimizer is None or not self.optimizer.built:
            return None
        return getattr(weights, "averages", None)

    @contextlib.contextmanager
    def in_place(self, profile=None):
        """Context in which the model has the averaged weights.

        Args:
            profile: see `AveragedOptimizer.averages_by_path`. Defaults to the
                average of a surrounding context, or else to the first.
        """
        is_settled = profile is None and self._is_in_place
        if is_settled or not self.exist():
            yield
            return
        outer, self._is_in_place = self._is_in_place, True
        try:
            with self.optimizer.averaged_weights(profile or 0):
                yield
        finally:
            self._is_in_place = outer

    def read(self, variables):
        """Return the averaged values of variables, also during training.

        Args:
            variables: list of variables of the model.

        Returns:
            A list of tensors: the first average of each averaged weight, the
            current value of all other variables.
        """
        if self.exist():
            variables = self.optimizer.replace_by_averages(variables)
        return [replicas.whole(v) for v in self.model.values_of(variables)]
