"""Distillation: students that draw in a few steps, without guidance.

A `Distillation` copies a trained model, its teacher, and trains the copy, the
student, so that `num_steps` steps give what the teacher gives with many, and
with guidance. It is trained by `fit` as the models are; `generate` and
`save_to_preset` are those of the student.
"""

from keras_simple_diffusion.distillation.consistency import (
    ConsistencyDistillation,
)
from keras_simple_diffusion.distillation.distillation import Distillation
from keras_simple_diffusion.distillation.moment_matching import MomentMatching
from keras_simple_diffusion.distillation.progressive import (
    ProgressiveDistillation,
)

__all__ = [
    "ConsistencyDistillation",
    "Distillation",
    "MomentMatching",
    "ProgressiveDistillation",
]


def __dir__():
    return __all__
