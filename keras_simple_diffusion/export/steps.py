"""The steps of a sampler as a table of coefficients."""

import numpy as np
from keras import ops

from keras_simple_diffusion import samplers
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.samplers.sampler import SamplerStep
from keras_simple_diffusion.utils.errors import InputError

# What a step is a weighted sum of, in the order of `_coefficients`.
TERMS = ("noisy", "clean", "previous_clean", "noise")


def table_of_steps(sampler, grid):
    """Express the steps of a sampler as weighted sums of images.

    A step of most samplers is, with weights that depend on its noise levels,

    ```
    noisy = a noisy + b clean + c previous_clean + d noise
    ```

    where `clean` is the prediction in this step, `previous_clean` that of the
    step before, and `noise` is fresh. The weights are measured: the sampler
    steps with images in which one of the four is 1 and the others are 0.

    Args:
        sampler: a `keras_simple_diffusion.samplers.Sampler`.
        grid: float32 tensor of shape `(num_steps + 1,)`, see `log_snr_grid`.

    Returns:
        A list of dicts, one a step, with `"log_snr"`, the noise level at which
        the network predicts, and the weights `"noisy"`, `"clean"`,
        `"previous_clean"` and `"noise"`.

    Raises:
        InputError: if the steps of the sampler are no such sums.
    """
    draws = np.random.RandomState(0).normal(size=(4, 1, 2, 2, 3))
    # Along the last axis of the first images each of the four is 1 in turn.
    units = np.eye(4).reshape(4, 1, 1, 1, 4)
    table, num_steps = [], len(grid) - 1
    for index in range(num_steps):
        weights = _step(sampler, grid, index, units).reshape(4)
        # The final draw of noise is zero.
        weights[3] *= index < num_steps - 1
        found = _step(sampler, grid, index, draws)
        draws[3] *= index < num_steps - 1
        expected = np.einsum("t,t...->...", weights, draws)
        if not np.allclose(found, expected, atol=1e-4):
            raise _is_no_sum(sampler)
        row = {"log_snr": float(grid[index])}
        table.append(row | dict(zip(TERMS, map(float, weights), strict=True)))
    return table


def _step(sampler, grid, index, terms):
    """Take one step with given images, and return the noisy ones."""
    noisy, clean, previous, noise = (
        ops.convert_to_tensor(term, "float32") for term in terms
    )
    memory = sampler.initial_memory(noisy)
    if ops.is_tensor(memory):
        memory = previous
    at = SamplerStep(noisy, grid, index, memory)
    is_last = index == len(grid) - 2
    levels = []

    def denoise(given, log_snr):
        if given is not noisy:
            raise _is_no_sum(sampler)
        levels.append(float(log_snr))
        return clean

    def draw_noise():
        return ops.zeros_like(noise) if is_last else noise

    result, predicted, *memory = sampler.step(denoise, at, draw_noise)
    if levels != [float(grid[index])] or any(
        each is not clean for each in (predicted, *memory)
    ):
        raise _is_no_sum(sampler)
    return native.to_numpy(result).astype("float64")


def _is_no_sum(sampler):
    return InputError(
        "Only samplers are exported whose steps are sums of the noisy images, "
        "the predictions of two steps and noise, such as ddpm, ddim and dpm. "
        f"Received: sampler={samplers.identify(sampler)}. Pass `sampler`."
    )
