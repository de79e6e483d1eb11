import dataclasses
import itertools
from typing import Any

import numpy as np
from keras import ops

from keras_simple_diffusion.backend.compilation import fori_loop
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.utils.configurable import Configurable
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number

# Distance between the random streams of two draws in one step.
_MAX_STEPS = 1 << 20


@dataclasses.dataclass(frozen=True)
class SamplerStep:
    """The state of sampling before one step.

    Args:
        noisy_images: float32 tensor of shape `(B, H, W, C)`, at `log_snr`.
        grid: float32 tensor of shape `(num_steps + 1,)`, the log-SNR of all
            noise levels.
        index: int, or int32 scalar tensor. The step goes from `grid[index]`
            to `grid[index + 1]`.
        memory: nested structure of tensors that the previous step returned;
            in the first step the result of `Sampler.initial_memory`.
    """

    noisy_images: Any
    grid: Any
    index: Any
    memory: Any = ()

    @property
    def log_snr(self):
        """The noise level of `noisy_images`, a float32 scalar tensor."""
        return self.level(0)

    @property
    def next_log_snr(self):
        """The noise level after the step, a float32 scalar tensor."""
        return self.level(1)

    @property
    def num_steps(self):
        """The number of steps of the grid, an int."""
        return self.grid.shape[0] - 1

    @property
    def is_first(self):
        """`True` in the first step (a bool tensor in compiled code)."""
        return self.index < 1

    @property
    def is_last(self):
        """`True` in the last step (a bool tensor in compiled code)."""
        return self.index + 1 >= self.num_steps

    def level(self, offset):
        """Return a noise level relative to the step.

        Args:
            offset: int. `0` is the level of `noisy_images`, `1` the next
                level, `-1` the level of the previous step. Levels beyond the
                ends of the grid are those of the ends.

        Returns:
            The log-SNR, a float32 scalar tensor.
        """
        index = ops.convert_to_tensor(self.index + offset, "int32")
        index = ops.clip(index, 0, self.num_steps)
        return ops.take(self.grid, index, axis=0)


class Sampler(Configurable):
    """Base class of samplers, which step along a grid of noise levels.

    A subclass defines `step`, and keeps the arguments of its constructor as
    attributes of the same names. A sampler is immutable: grid, noise and seed
    are arguments of `sample`, so compiled code never depends on stale state.

    Example:
    ```python
    alpha_sigma = keras_simple_diffusion.ops.alpha_sigma

    class Euler(keras_simple_diffusion.samplers.Sampler):
        def step(self, denoise, at, draw_noise):
            clean = denoise(at.noisy_images, at.log_snr)
            alpha, sigma = alpha_sigma(at.log_snr)
            noise = (at.noisy_images - alpha * clean) / sigma
            alpha, sigma = alpha_sigma(at.next_log_snr)
            return alpha * clean + sigma * noise, clean

    images = model.generate(labels=[3], sampler=Euler())
    ```
    """

    def initial_memory(self, noise):
        """Make the memory that the first step receives.

        Args:
            noise: float32 tensor of shape `(B, H, W, C)`.

        Returns:
            A nested structure of tensors, with the shapes and dtypes of the
            memory that `step` returns. Defaults to none.
        """
        return ()

    def step(self, denoise, at, draw_noise):
        """Step from one noise level to the next.

        Args:
            denoise: function of `(noisy_images, log_snr)`, with a scalar
                log-SNR, that returns the predicted clean images.
            at: a `SamplerStep`, the images, noise levels and memory.
            draw_noise: function without arguments that returns standard
                normal noise shaped like `at.noisy_images`, new in each call,
                or zeros in the last step.

        Returns:
            A tuple `(noisy_images, clean_images)`: the images at
            `at.next_log_snr`, and the predicted clean images. A sampler with
            a memory returns a third value, the memory for the next step.
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
        """Sample images by stepping from the first to the last noise level.

        Args:
            denoise: function of `(noisy_images, log_snr)`, with log-SNR of
                shape `(B,)`, that returns the predicted clean images.
            noise: float tensor of shape `(B, H, W, C)`, the images at
                `grid[0]`: standard normal noise.
            grid: float tensor of shape `(num_steps + 1,)`, increasing
                log-SNR, see `keras_simple_diffusion.samplers.log_snr_grid`;
                or decreasing, for inversion with `DDIMSampler`.
            seed: int, or a key made by `ops.random.seed_to_key`. The fresh
                noise of an image depends on it and on the image's index
                alone. Defaults to `0`.
            indices: int tensor of shape `(B,)`, the images' indices.
                Defaults to `0, 1, ...`.
            return_clean: bool. If `True`, return the clean images predicted
                in the last step instead of the images at `grid[-1]`, which
                contain the noise of that level. Defaults to `False`.
            return_steps: bool. If `True`, also return the images of each
                step. Defaults to `False`.

        Returns:
            A float32 tensor of shape `(B, H, W, C)`. With `return_steps` a
            tuple of this tensor, the noisy images before each step, and the
            clean images predicted in each step, the last two of shape
            `(num_steps, B, H, W, C)`.
        """
        grid = ops.convert_to_tensor(grid, "float32")
        num_steps = grid.shape[0] - 1
        state = self.initial_state(noise, num_steps if return_steps else 0)
        noisy, clean, _, history = self.advance(
            denoise, state, grid, 0, num_steps, seed, indices
        )
        images = clean if return_clean else noisy
        return (images, *history) if return_steps else images

    def initial_state(self, noise, num_kept=0):
        """Make the state before the first step.

        Args:
            noise: float tensor of shape `(B, H, W, C)`, the images at the
                first noise level.
            num_kept: int. The number of steps whose images are kept, all or
                none. Defaults to `0`.

        Returns:
            A tuple of the noisy images, the clean ones predicted in the
            previous step, the memory, and the images of each step.
        """
        noise = ops.cast(noise, "float32")
        history = ()
        if num_kept:
            empty = ops.zeros((num_kept, *noise.shape), dtype="float32")
            history = (empty, empty)
        memory = self.initial_memory(noise)
        return noise, ops.zeros_like(noise), memory, history

    def advance(self, denoise, state, grid, first, last, seed=0, indices=None):
        """Take some of the steps.

        Args:
            denoise: see `sample`.
            state: the state before step `first`, see `initial_state`.
            grid: float32 tensor, see `sample`.
            first: int, or int32 scalar tensor. The first step.
            last: int, or int32 scalar tensor. The step before which to end.
            seed: see `sample`.
            indices: see `sample`.

        Returns:
            The state before step `last`.
        """
        noisy_images = state[0]
        batch_size, num_steps = noisy_images.shape[0], grid.shape[0] - 1
        if hasattr(seed, "__index__") and not getattr(seed, "shape", ()):
            seed = random.seed_to_key(seed)
        key = ops.convert_to_tensor(seed, "int32")
        if indices is None:
            indices = ops.arange(batch_size, dtype="int32")
        indices = ops.convert_to_tensor(indices, "int32")
        keys = random.image_keys(key, indices)

        def denoise_batch(noisy_images, log_snr):
            log_snr = ops.broadcast_to(log_snr, (batch_size,))
            return denoise(noisy_images, log_snr)

        def body(i, state):
            draws = itertools.count()

            def draw_noise():
                # Stream 0 is the initial noise, 1 to num_steps are the first
                # draws of the steps.
                stream = next(draws) * _MAX_STEPS + i + 1
                fresh = random.normal(keys, stream, noisy_images.shape[1:])
                return ops.where(i + 1 < num_steps, fresh, 0.0)

            before, _, memory, history = state
            at = SamplerStep(before, grid, i, memory)
            noisy, clean, *new_memory = self.step(denoise_batch, at, draw_noise)
            memory = new_memory[0] if new_memory else memory
            history = tuple(
                _store(kept, new, i)
                for kept, new in zip(history, (before, clean), strict=False)
            )
            return noisy, clean, memory, history

        return fori_loop(first, last, body, state)


def _store(kept, new, i):
    """Replace entry `i` of the first axis."""
    start = [i] + [0] * len(new.shape)
    return ops.slice_update(kept, start, ops.expand_dims(new, 0))


SPACINGS = ("time", "log_snr", "power")
# Exponent of the "power" spacing; a larger one is denser at the clean end.
_POWER = 7.0


def log_snr_grid(schedule, num_steps, spacing="time"):
    """Make the grid of noise levels of a sampler.

    Args:
        schedule: a `keras_simple_diffusion.schedules.NoiseSchedule`.
        num_steps: int. Number of steps, at least 1.
        spacing: string. `"time"`: uniform in the time of the schedule, as in
            the paper, or of its `sampling_schedule` if that is another one;
            `"log_snr"`: uniform in log-SNR; `"power"`: uniform in the seventh
            root of `sigma / alpha`, as in EDM. Defaults to `"time"`.

    Returns:
        The log-SNR of each level, a float32 tensor of shape
        `(num_steps + 1,)`, from the noisy end of the schedule to the clean
        end, both included exactly.

    Raises:
        InputError: if `num_steps` or `spacing` is not valid.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.CosineSchedule()
    >>> grid = keras_simple_diffusion.samplers.log_snr_grid(schedule, 2)
    >>> [round(float(log_snr), 3) for log_snr in grid]
    [-15.0, 0.0, 15.0]

    References:
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), eq. 5
    """
    num_steps = check_number(
        "num_steps", num_steps, at_least=1, below=_MAX_STEPS, whole=True
    )
    if spacing not in SPACINGS:
        raise InputError(
            f"`spacing` must be one of {SPACINGS}. Received: "
            f"spacing={spacing!r}"
        )
    t = np.linspace(1.0, 0.0, num_steps + 1, dtype="float32")
    if spacing == "time":
        return ops.cast(schedule.sampling_schedule(t), "float32")
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
