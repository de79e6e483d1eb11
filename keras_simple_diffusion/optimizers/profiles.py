"""Profiles of weight averages: the share of each past update."""

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.utils.configurable import Configurable
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number


class AverageProfile(Configurable):
    """Base class of profiles, the shares of past updates in an average.

    After update `n = 1, 2, ...` the average becomes

    ```
    average = average + gain(n) (weights - average)
    ```

    with `gain(1) = 1`, so the first update copies the weights.
    `log_retention` describes the same profile in closed form; it is used
    after training. The shares of updates 1 to `k` in the average after update
    `n` sum to `exp(log_retention(n) - log_retention(k))`.
    """

    def gain(self, count):
        """Compute the share of the newest weights in the average.

        Args:
            count: float32 tensor, the number of this update, counted from 1.

        Returns:
            A float32 tensor in `(0, 1]`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def log_retention(self, count):
        """Compute the logarithm of `(1 - gain(2)) ... (1 - gain(count))`.

        Args:
            count: NumPy array of numbers of updates; 0 gives infinity.

        Returns:
            A float64 NumPy array.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ExponentialProfile(AverageProfile):
    """Exponential moving average with a warm-up.

    `1 - gain(n) = min(decay, (n - 1) / (n + 9))`: during the warm-up the
    average covers about the last tenth of the training so far.

    Args:
        decay: float in `[0, 1)`. The decay after the warm-up. Defaults to
            `0.9999`, the paper's.
    """

    def __init__(self, decay=0.9999):
        self.decay = check_number("decay", decay, at_least=0, below=1)

    def gain(self, count):
        least = ops.convert_to_tensor(1.0 - self.decay, "float32")
        return ops.maximum(least, 10.0 / (count + 9.0))

    def log_retention(self, count):
        count = np.asarray(count, "float64")
        if self.decay == 0.0:
            # The average is the newest weights; older ones have no share.
            return np.where(count == 0, np.inf, -1e9 * count)
        # The last update of the warm-up.
        warm = np.floor((1.0 + 9.0 * self.decay) / (1.0 - self.decay))
        early = np.minimum(count, warm)
        # The product of (j - 1) / (j + 9) telescopes to ten factors.
        with np.errstate(divide="ignore"):
            logs = [np.log(i + 1.0) - np.log(early + i) for i in range(10)]
        return sum(logs) + (count - early) * np.log(self.decay)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class PowerProfile(AverageProfile):
    """Average over a fixed fraction of the training so far, at any time.

    The shares of updates 1 to `k` in the average after update `n` sum to
    `(k / n)^(gamma + 1)`, so `1 - gain(n) = (1 - 1 / n)^(gamma + 1)`.

    At time `u = k / n` the density of the weights is
    `(gamma + 1) u^gamma`, with mean `(gamma + 1) / (gamma + 2)` and variance
    `(gamma + 1) / ((gamma + 3) (gamma + 2)^2)`. Its standard deviation is the
    relative width: 0.05 averages over about the last twentieth of the
    training, whatever its length.

    Args:
        relative_width: float in `(0, 0.288]`. The largest, one over the
            square root of 12, gives all updates equal shares. Defaults to
            `0.05`.

    References:
        - [Karras et al., 2023](https://arxiv.org/abs/2312.02696), section 3
    """

    def __init__(self, relative_width=0.05):
        self.relative_width = check_number(
            "relative_width", relative_width, above=0, at_most=12.0**-0.5
        )

    @property
    def gamma(self):
        """The exponent of the density, at least 0."""
        # With m = gamma + 2 and the variance v, m^3 + m^2 - m / v + 1 / v = 0,
        # whose largest root has gamma >= 0.
        precision = self.relative_width**-2.0
        roots = np.roots([1.0, 1.0, -precision, precision])
        return max(float(roots.real.max()) - 2.0, 0.0)

    def gain(self, count):
        # In float32, 1 - (1 - 1 / n)^(gamma + 1) would cancel for large n.
        return -ops.expm1((self.gamma + 1.0) * ops.log1p(-1.0 / count))

    def log_retention(self, count):
        with np.errstate(divide="ignore"):
            return -(self.gamma + 1.0) * np.log(np.asarray(count, "float64"))


def to_profiles(decay):
    """Convert the argument `ema_decay` to profiles.

    Args:
        decay: float, the decay of an `ExponentialProfile`; an
            `AverageProfile`; or a list of these.

    Returns:
        A tuple of different `AverageProfile`s.

    Raises:
        InputError: if the list is empty or has equal profiles.
    """
    if not isinstance(decay, (list, tuple)):
        decay = [decay]
    profiles = tuple(
        each if isinstance(each, AverageProfile) else ExponentialProfile(each)
        for each in decay
    )
    if not profiles or len(set(profiles)) != len(profiles):
        raise InputError(
            "`ema_decay` must be one or more averages that are different from "
            f"each other. Received: ema_decay={list(decay)}"
        )
    return profiles
