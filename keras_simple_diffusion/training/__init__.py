"""Training runs: folders that hold settings, checkpoints and results.

`plan` chooses what is not given, `train_run` starts a run, `distill_run` one
that makes a student of few steps, and `resume_run` continues either; `Recipe`
and `RunSettings` describe it. `reconstruct` computes averages of the weights
from a run's snapshots, and `embed_data` embeds captions in advance.
"""

from keras_simple_diffusion.training.captions import embed_data
from keras_simple_diffusion.training.distillation_run import distill_run
from keras_simple_diffusion.training.lifecycle import Interrupted
from keras_simple_diffusion.training.planning import Plan
from keras_simple_diffusion.training.planning import plan
from keras_simple_diffusion.training.resumption import resume_run
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.snapshots import reconstruct
from keras_simple_diffusion.training.training_run import train_run

__all__ = [
    "Interrupted",
    "Plan",
    "Recipe",
    "RunSettings",
    "distill_run",
    "embed_data",
    "plan",
    "reconstruct",
    "resume_run",
    "train_run",
]


def __dir__():
    return __all__
