import dataclasses
import numbers
from typing import Any

import numpy as np
from keras import ops

from keras_simple_diffusion.ops import random
from keras_simple_diffusion.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class SamplerStep:
    """What a sampler knows when it goes from one noise level to the next.

    Args:
        noisy_images: float32 tensor of shape `(B, H, W, C)`, at `log_snr`.
        log_snr: float32 scalar tensor.
        next_log_snr: float32 scalar tensor, the level to go to.
        previous_clean_images: float32 tensor of shape `(B, H, W, C)`, what
            the step before predicted; zeros in the first one.
        previous_log_snr: float32 scalar tensor, the level of the step before.
        is_first: bool, or bool scalar tensor.
        is_last: bool, or bool scalar tensor.
        num_steps: int.
    """

    noisy_images: Any
    log_snr: Any
    next_log_snr: Any
    previous_clean_images: Any
    previous_log_snr: Any
    is_first: Any
    is_last: Any
    num_steps: int


class Sampler:
    """Base class of the samplers: it walks a grid of noise levels.

    A sampler is immutable. Everything that belongs to one run (grid, noise,
    seed) is an argument of `sample`, so that a compiled run can never be
    stale. A sampler of one's own defines `step`; attributes, if it has any,
    go to `get_config`.

    Example:
    ```python
    class Euler(keras_simple_diffusion.samplers.Sampler):
        def step(self, denoise, at, draw_noise):
            clean = denoise(at.noisy_images, at.log_snr)
            alpha, sigma = ksd.ops.alpha_sigma(at.log_snr)
            noise = (at.noisy_images - alpha * clean) / sigma
            alpha, sigma = ksd.ops.alpha_sigma(at.next_log_snr)
            return alpha * clean + sigma * noise, clean
    ```
    """

    def step(self, denoise, at, draw_noise):
        """Go from one noise level to the next.

        Args:
            denoise: function of `(noisy_images, log_snr)`, with a scalar
                log-SNR, that returns the predicted clean images.
            at: a `SamplerStep`, where the walk is.
            draw_noise: function without arguments that returns fresh standard
                normal noise shaped like `noisy_images`, or zeros in the last
                step. To be called at most once.

        Returns:
            A tuple `(noisy_images, clean_images)`: the images at
            `next_log_snr`, and the clean ones predicted on the way.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def sample(
        self,
        denoise,
        noise,
        grid,
        seed=0,
        indices=None,
        return_clean=False,
        return_steps=False,
    ):
        """Draw images by walking from the first to the last noise level.

        Args:
            denoise: function of `(noisy_images, log_snr)`, with log-SNR of
                shape `(B,)`, that returns the predicted clean images.
            noise: float tensor of shape `(B, H, W, C)`, the images at
                `grid[0]`: standard normal noise.
            grid: float tensor of shape `(num_steps + 1,)`, increasing
                log-SNR, see `keras_simple_diffusion.samplers.log_snr_grid`.
            seed: int, or a key made by `ops.random.seed_to_key`. The fresh
                noise of an image depends on it and on the image's index
                alone. Defaults to `0`.
            indices: int tensor of shape `(B,)`, the images' indices.
                Defaults to `0, 1, ...`.
            return_clean: bool. Whether to return the clean images predicted
                in the last step, instead of those at `grid[-1]`, which still
                hold the little noise of that level. Defaults to `False`.
            return_steps: bool. Whether to return what each step saw as well.
                Defaults to `False`.

        Returns:
            A float32 tensor of shape `(B, H, W, C)`. With `return_steps` a
            tuple of it, the noisy images that each step started from, and
            the clean ones that it predicted, both of shape
            `(num_steps, B, H, W, C)`.
        """
        noise = ops.cast(noise, "float32")
        grid = ops.cast(ops.convert_to_tensor(grid), "float32")
        batch_size, num_steps = noise.shape[0], grid.shape[0] - 1
        if hasattr(seed, "__index__") and not getattr(seed, "shape", ()):
            seed = random.seed_to_key(seed)
        key = ops.cast(ops.convert_to_tensor(seed), "int32")
        if indices is None:
            indices = ops.arange(batch_size, dtype="int32")
        indices = ops.cast(ops.convert_to_tensor(indices), "int32")
        keys = random.image_keys(key, indices)

        def denoise_batch(noisy_images, log_snr):
            log_snr = ops.broadcast_to(log_snr, (batch_size,))
            return denoise(noisy_images, log_snr)

        def body(i, state):
            def draw_noise():
                # Stream 0 is the initial noise.
                fresh = random.normal(keys, i + 1, noise.shape[1:])
                return ops.where(i + 1 < num_steps, fresh, 0.0)

            before, clean, *history = state
            at = SamplerStep(
                noisy_images=before,
                log_snr=ops.take(grid, i, axis=0),
                next_log_snr=ops.take(grid, i + 1, axis=0),
                previous_clean_images=clean,
                previous_log_snr=ops.take(grid, ops.maximum(i - 1, 0), axis=0),
                is_first=i < 1,
                is_last=i + 1 >= num_steps,
                num_steps=num_steps,
            )
            noisy, clean = self.step(denoise_batch, at, draw_noise)
            history = [
                _store(kept, new, i)
                for kept, new in zip(history, (before, clean), strict=False)
            ]
            return noisy, clean, *history

        state = [noise, ops.zeros_like(noise)]
        if return_steps:
            history = ops.zeros((num_steps, *noise.shape), dtype="float32")
            state += [history, history]
        noisy, clean, *history = ops.fori_loop(0, num_steps, body, tuple(state))
        images = clean if return_clean else noisy
        return (images, *history) if return_steps else images

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        config = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({config})"

    # Samplers that do the same are equal, so that they share a compiled run.

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self):
        return hash((type(self), repr(sorted(vars(self).items()))))


def _store(kept, new, i):
    shape = (-1,) + (1,) * len(new.shape)
    is_here = ops.reshape(ops.arange(kept.shape[0]), shape) == i
    return ops.where(is_here, new, kept)


SPACINGS = ("time", "log_snr", "power")
# Of the "power" spacing: how much denser it is at the clean end.
_POWER = 7.0


def log_snr_grid(schedule, num_steps, spacing="time"):
    """Log-SNR at which a sampler stops, from the noisy to the clean end.

    Args:
        schedule: a `keras_simple_diffusion.schedules.NoiseSchedule`.
        num_steps: int. Number of steps, at least 1.
        spacing: string. `"time"`: uniform in time, as in the paper;
            `"log_snr"`: uniform in log-SNR; `"power"`: uniform in the seventh
            root of `sigma / alpha`, as in EDM. Defaults to `"time"`.

    Returns:
        A float32 tensor of shape `(num_steps + 1,)`, from the noisy end of
        the schedule to the clean one, both included exactly.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.CosineSchedule()
    >>> keras_simple_diffusion.samplers.log_snr_grid(schedule, 2)  # -15, 0, 15

    References:
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), eq. 5
    """
    if not isinstance(num_steps, numbers.Real) or not (
        num_steps == int(num_steps) >= 1
    ):
        raise InputError(
            "`num_steps` must be a whole number of at least 1. "
            f"Received: num_steps={num_steps}"
        )
    if spacing not in SPACINGS:
        raise InputError(
            f"`spacing` must be one of {SPACINGS}. Received: "
            f"spacing={spacing!r}"
        )
    t = np.linspace(1.0, 0.0, int(num_steps) + 1, dtype="float32")
    if spacing == "time":
        return ops.cast(schedule(t), "float32")
    ends = ops.convert_to_numpy(schedule(np.array([1.0, 0.0], "float32")))
    low, high = ends.astype("float64")
    share = 1.0 - t.astype("float64")
    if spacing == "log_snr":
        grid = low + share * (high - low)
    else:
        # sigma / alpha is exp(-log_snr / 2).
        first, last = (np.exp(-0.5 * end / _POWER) for end in (low, high))
        grid = -2.0 * _POWER * np.log(first + share * (last - first))
    grid[0], grid[-1] = low, high
    return ops.convert_to_tensor(grid, dtype="float32")
