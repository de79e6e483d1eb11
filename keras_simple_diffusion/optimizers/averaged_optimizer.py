import contextlib
import itertools

import keras
from keras import ops

from keras_simple_diffusion.backend.fused import move_towards
from keras_simple_diffusion.backend.keras_internals import layout_of
from keras_simple_diffusion.backend.keras_internals import trained_variables
from keras_simple_diffusion.optimizers.profiles import to_profiles
from keras_simple_diffusion.optimizers.wrapper import OptimizerWrapper
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.interrupts import uninterrupted


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class AveragedOptimizer(OptimizerWrapper):
    """Optimizer that keeps moving averages of the weights.

    It wraps another optimizer and updates the averages right after it, inside
    the compiled training step, once an update: micro-batches of gradient
    accumulation do not count. Unlike `use_ema=True` of the Keras optimizers
    it never overwrites the weights with their average.

    Args:
        inner_optimizer: the `keras.optimizers.Optimizer` that makes the steps.
        decay: float, the decay of a
            `keras_simple_diffusion.optimizers.ExponentialProfile`; another
            profile; or a list of these, for one average each. Defaults to
            `0.9999`, the paper's.
        name: string. Defaults to `"averaged_optimizer"`.

    Example:
    ```python
    optimizer = keras_simple_diffusion.optimizers.AveragedOptimizer(
        keras.optimizers.Adam(1e-4), decay=0.9999
    )
    ```
    """

    def __init__(
        self, inner_optimizer, decay=0.9999, name="averaged_optimizer"
    ):
        if getattr(inner_optimizer, "use_ema", False):
            raise InputError(
                "`inner_optimizer` must not average as well: its `use_ema` "
                "overwrites the weights at the end of `fit`. Received: "
                f"inner_optimizer={inner_optimizer} with use_ema=True"
            )
        super().__init__(inner_optimizer, name)
        self.profiles = to_profiles(decay)

    def build(self, variables):
        if self.built:
            return
        self.num_averaged = self.add_own_variable((), "int32", "num_averaged")
        # One list a profile, in the order of the weights.
        self.averages = [
            [
                self.add_own_variable(
                    variable.shape,
                    "float32",
                    f"{variable.path.replace('/', '_')}_average{suffix}",
                    layout=layout_of(variable),
                )
                for variable in variables
            ]
            for suffix in self._suffixes()
        ]
        super().build(variables)

    def _suffixes(self):
        return ["", *(f"_{i}" for i in range(1, len(self.profiles)))]

    def observe(self, grads, is_update):
        count = self.num_averaged + ops.cast(is_update, "int32")
        self.num_averaged.assign(count)
        # Before the first update the gain is 0; count 1 keeps `gain` finite.
        count = ops.cast(ops.maximum(count, 1), "float32")
        for profile, averages in zip(self.profiles, self.averages, strict=True):
            gain = ops.where(is_update, profile.gain(count), 0.0)
            for weight, average in zip(
                trained_variables(self), averages, strict=True
            ):
                move_towards(average, ops.cast(weight, "float32"), gain)

    def has_averages(self):
        """Return `True` after the first update."""
        return self.built and int(ops.convert_to_numpy(self.num_averaged)) > 0

    def forget(self):
        """Start all averages anew with the next update."""
        self.num_averaged.assign(0)

    @property
    def average_variables(self):
        """The variables that hold the averages, and how many updates."""
        return [self.num_averaged, *itertools.chain(*self.averages)]

    def averages_by_path(self, profile=0):
        """The variables that hold an average.

        Args:
            profile: int, the index of a profile, or the profile itself, or
                its decay. Defaults to `0`.

        Returns:
            A dict from the path of each trained weight to its average.
        """
        averages = self.averages[self._index_of(profile)]
        paths = [weight.path for weight in trained_variables(self)]
        return dict(zip(paths, averages, strict=True))

    def replace_by_averages(self, variables, profile=0):
        """Replace weights by the variables that hold an average of theirs.

        Args:
            variables: list of `keras.Variable`s.
            profile: see `averages_by_path`. Defaults to `0`.

        Returns:
            A list of `keras.Variable`s; those that are not averaged stay.
        """
        averages = self.averages[self._index_of(profile)]
        averages = dict(
            zip(map(id, trained_variables(self)), averages, strict=True)
        )
        return [averages.get(id(each), each) for each in variables]

    def copy_averages(self, other):
        """Take over the averages of another such optimizer.

        A profile that the other one did not have starts from its first
        average, and weights that it did not train from their current values.
        """
        self.num_averaged.assign(ops.copy(other.num_averaged))
        for profile, averages in zip(self.profiles, self.averages, strict=True):
            known = profile if profile in other.profiles else 0
            sources = other.replace_by_averages(trained_variables(self), known)
            for source, average in zip(sources, averages, strict=True):
                average.assign(ops.cast(ops.copy(source), "float32"))

    @contextlib.contextmanager
    def averaged_weights(self, profile=0):
        """Context in which the weights are replaced by an average.

        Args:
            profile: see `averages_by_path`.
        """
        weights = trained_variables(self)
        averages = self.averages[self._index_of(profile)]
        # Copies, so that no weight shares its memory with an average: JAX
        # would refuse to donate it twice.
        kept = [ops.stop_gradient(ops.copy(weight)) for weight in weights]
        try:
            for weight, average in zip(weights, averages, strict=True):
                weight.assign(ops.cast(ops.copy(average), weight.dtype))
            yield
        finally:
            with uninterrupted():
                for weight, value in zip(weights, kept, strict=True):
                    weight.assign(value)

    def keep_average(self):
        """Make the first average the weights, and start all averages anew."""
        weights = trained_variables(self)
        for weight, average in zip(weights, self.averages[0], strict=True):
            weight.assign(ops.cast(ops.copy(average), weight.dtype))
        self.forget()

    def _index_of(self, profile):
        indices = {each: i for i, each in enumerate(self.profiles)}
        if isinstance(profile, int):
            found = profile if profile in indices.values() else None
        else:
            (profile,) = to_profiles(profile)
            found = indices.get(profile)
        if found is None:
            raise InputError(
                f"There is no such average. Received: profile={profile}. Kept "
                f"are {list(self.profiles)}"
            )
        return found

    def get_config(self):
        return {
            **super().get_config(),
            "decay": [
                keras.saving.serialize_keras_object(profile)
                for profile in self.profiles
            ],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {
            **config,
            "decay": keras.saving.deserialize_keras_object(
                config["decay"], custom_objects=custom_objects
            ),
        }
        return super().from_config(config, custom_objects)
