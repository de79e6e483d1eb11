import dataclasses
from typing import Any

import keras

from keras_simple_diffusion.ops.diffusion import stratify


@dataclasses.dataclass(frozen=True)
class NoisyBatch:
    """Batch of images with noise, as a network is trained on it.

    Attributes:
        images: float32 tensor of shape `(B, H, W, C)` in [-1, 1].
        noise: float32 tensor shaped like `images`.
        time: float32 tensor of shape `(B,)`.
        log_snr: float32 tensor of shape `(B,)`.
        noisy_images: float32 tensor shaped like `images`.
        conditions: dict of the network's further inputs.
        num_bad: dict of the numbers of bad values, see `ValueCheck`.
    """

    images: Any
    noise: Any
    time: Any
    log_snr: Any
    noisy_images: Any
    conditions: dict
    num_bad: dict


def draw_times(batch_size, generator, stratified):
    """Draw times of a batch, with one draw from the generator.

    Args:
        batch_size: int.
        generator: a `keras.random.SeedGenerator`.
        stratified: bool. Whether the times are spread evenly.

    Returns:
        A tuple of the times, and of numbers that decide on dropped conditions:
        float32 tensors of shape `(batch_size,)` in `[0, 1)`.
    """
    uniform = keras.random.uniform(
        (batch_size + 1, 2), dtype="float32", seed=generator
    )
    times, dropout = uniform[:-1, 0], uniform[:-1, 1]
    if stratified:
        times = stratify(times, uniform[-1:, 0])
    return times, dropout
