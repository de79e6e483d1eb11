import dataclasses
from typing import Any


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
