"""Check of the values of a batch inside of the compiled step.

Outside of it only the first batches of a dataset are looked at. The step finds
bad values in all of them, without waiting for the device: it counts them, sets
them to zero, and gives their batch a loss of NaN and a gradient of zero, with
which the momentum and the weight decay of an optimizer still move the weights.
The counts are read at the end of an epoch, with the other metrics, and raise an
error.
"""

import keras
from keras import ops

from keras_simple_diffusion.generation.values import LARGEST_VALUE
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.utils.errors import InputError


class ValueCheck(keras.metrics.Metric):
    """Number of images of an epoch with bad values, by the kind of values.

    As a metric it is carried through the compiled step, and reset with each
    epoch. It adds nothing to the logs.

    Args:
        num_values: dict from names of integer conditions, such as `"labels"`,
            to the number of values they can have, counted from 0.
    """

    def __init__(self, num_values):
        super().__init__(name="value_check", dtype="float32")
        self.num_values = dict(num_values)
        names = ("images", "context", *self.num_values)
        # One variable each: only few of them are updated in a step.
        self.counts = {
            name: self.add_variable((), "zeros", name=name) for name in names
        }

    def mend(self, images, conditions):
        """Find bad values of a batch, and replace them by zeros.

        Args:
            images: tensor of shape `(B, H, W, C)`, `uint8` or float.
            conditions: dict of tensors of shape `(B, ...)`.

        Returns:
            A tuple of the images, the conditions, and a dict of float32
            scalars, the numbers of rows that were bad.
        """
        mended = {"images": images, **conditions}
        num_bad = {}
        for name, value in mended.items():
            is_bad = self._is_bad(name, value)
            if is_bad is not None:
                num_bad[name] = ops.sum(ops.cast(is_bad, "float32"))
                mended[name] = ops.where(
                    expand_like(is_bad, value), ops.zeros_like(value), value
                )
        images = mended.pop("images")
        return images, mended, num_bad

    def _is_bad(self, name, value):
        """Find the rows with bad values; `None` if there can be none."""
        dtype = keras.backend.standardize_dtype(value.dtype)
        num_values = {**self.num_values, "images": 256}
        if "float" in dtype and name == "images":
            is_good = ops.abs(value) <= LARGEST_VALUE  # NaN is not.
        elif "float" in dtype and name == "context":
            is_good = ops.isfinite(value)
        elif name in num_values and (name, dtype) != ("images", "uint8"):
            number = ops.cast(value, "int32")
            is_good = ops.logical_and(number >= 0, number < num_values[name])
            if "float" in dtype:
                is_whole = ops.cast(number, dtype) == value
                is_good = ops.logical_and(is_good, is_whole)
        else:
            return None
        axes = tuple(range(1, len(value.shape)))
        return ops.logical_not(ops.all(is_good, axis=axes) if axes else is_good)

    def update_state(self, num_bad):
        """Add the numbers that `mend` found in a batch."""
        for name, count in num_bad.items():
            self.counts[name].assign(self.counts[name] + count)

    def result(self):
        return {}

    def check(self):
        """Raise an `InputError` if there were bad values, and forget them."""
        counts = {
            name: int(ops.convert_to_numpy(count))
            for name, count in self.counts.items()
        }
        self.reset_state()
        found = [
            f"{count} with {self._describe(name)}"
            for name, count in counts.items()
            if count
        ]
        if found:
            raise InputError(
                f"Of the images of the data, {' and '.join(found)}. Their "
                "batches have a loss of NaN and a gradient of zero, so that "
                "nothing was learned from them: correct the data."
            )

    def _describe(self, name):
        if name == "images":
            return (
                "pixels that are not finite or not in the range: uint8 in "
                "[0, 255], or float in [-1, 1]"
            )
        if name == "context":
            return "an embedding that is not finite"
        return f"{name} outside of [0, {self.num_values[name] - 1}]"


class RaiseBadValues(keras.callbacks.Callback):
    """Callback that raises the error of a `ValueCheck` after each epoch.

    Args:
        value_check: a `ValueCheck`.
    """

    def __init__(self, value_check):
        super().__init__()
        self.value_check = value_check

    def on_epoch_end(self, epoch, logs=None):
        self.value_check.check()
