"""Evaluation of trained models and of sets of images.

`evaluate` compares generated with real images and returns a `Report`. The rest
are its parts: `compare_features` computes the metrics from features that
`FeatureShards` keep on disk. `QuickFrechet` is a callback that follows the
Fréchet distance during training.
"""

from keras_simple_diffusion.evaluation.evaluation import PROTOCOLS
from keras_simple_diffusion.evaluation.evaluation import evaluate
from keras_simple_diffusion.evaluation.quick_frechet import QuickFrechet
from keras_simple_diffusion.evaluation.report import Report
from keras_simple_diffusion.evaluation.report import Result
from keras_simple_diffusion.evaluation.scores import METRICS
from keras_simple_diffusion.evaluation.scores import compare_features
from keras_simple_diffusion.evaluation.scores import score_alone
from keras_simple_diffusion.evaluation.shards import FeatureShards
from keras_simple_diffusion.evaluation.shards import fill_shards
from keras_simple_diffusion.evaluation.shards import reference_features

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "FeatureShards",
    "QuickFrechet",
    "Report",
    "Result",
    "compare_features",
    "evaluate",
    "fill_shards",
    "reference_features",
    "score_alone",
]


def __dir__():
    return __all__
