"""Contenders of `contest.py`: one file per project.

Each file defines `make(setting)`, which returns a function that runs the task
`setting.repeats` times, and a dict of facts.
"""

import dataclasses

import numpy as np

NUM_CLASSES = 10
NUM_HEADS = 4
STEPS = 32  # Of sampling.


@dataclasses.dataclass(frozen=True)
class Setting:
    """Task of a contender.

    Args:
        task: string, `"train"`, `"forward"` or `"sample"`.
        network: dict of arguments of the library's backbone.
        batch_size: int.
        repeats: int. Steps, forward passes or batches drawn in one turn.
        dtype: string. Dtype policy.
        compiled: bool. Whether to compile in frameworks where this is
            optional.
        guidance: float. Guidance of sampling, 1 for none.
        clock: function of `time` that returns seconds, by name.
    """

    task: str
    network: dict
    batch_size: int
    repeats: int
    dtype: str = "float32"
    compiled: bool = False
    guidance: float = 1.0
    clock: str = "perf_counter"

    def images(self):
        """Make a batch of `uint8` images and labels."""
        rng = np.random.default_rng(0)
        shape = (self.batch_size, *self.network["image_shape"])
        images = rng.integers(0, 256, shape, "uint8")
        return images, np.arange(self.batch_size, dtype="int32") % NUM_CLASSES

    def noise(self):
        """Make a batch of noisy images and their log-SNRs."""
        rng = np.random.default_rng(1)
        shape = (self.batch_size, *self.network["image_shape"])
        noise = rng.normal(size=shape).astype("float32")
        return noise, np.linspace(-4, 4, self.batch_size, dtype="float32")
