"""Evaluation of trained models and of sets of images.

`compare_features` computes the metrics between generated and real images, of
features that `FeatureShards` keep on disk. `QuickFrechet` is a callback that
follows the Fréchet distance during training.
"""

from keras_simple_diffusion.evaluation.quick_frechet import QuickFrechet
from keras_simple_diffusion.evaluation.reference import reference_features
from keras_simple_diffusion.evaluation.scores import METRICS
from keras_simple_diffusion.evaluation.scores import compare_features
from keras_simple_diffusion.evaluation.scores import score_alone
from keras_simple_diffusion.evaluation.shards import FeatureShards
from keras_simple_diffusion.evaluation.shards import fill_shards

__all__ = [
    "METRICS",
    "FeatureShards",
    "QuickFrechet",
    "compare_features",
    "fill_shards",
    "reference_features",
    "score_alone",
]


def __dir__():
    return __all__
