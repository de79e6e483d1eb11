"""Metrics of generated images, and the networks that they need.

Networks such as `InceptionFeatures` turn images into features. Distances
(`frechet_distance`, `kernel_distance`, `precision_recall`) compare features of
generated and real images. `bits_per_dimension` bounds a model's likelihood.
"""

from keras_simple_diffusion.metrics.classifier import ClassifierOutputs
from keras_simple_diffusion.metrics.clip import CLIPFeatures
from keras_simple_diffusion.metrics.clip import clip_score
from keras_simple_diffusion.metrics.dino import DINOFeatures
from keras_simple_diffusion.metrics.discrepancy import kernel_distance
from keras_simple_diffusion.metrics.efficientnet import EfficientNetFeatures
from keras_simple_diffusion.metrics.frechet import FeatureStatistics
from keras_simple_diffusion.metrics.frechet import FrechetReference
from keras_simple_diffusion.metrics.frechet import bootstrap_frechet_distance
from keras_simple_diffusion.metrics.frechet import extrapolated_frechet_distance
from keras_simple_diffusion.metrics.frechet import feature_statistics
from keras_simple_diffusion.metrics.frechet import frechet_distance
from keras_simple_diffusion.metrics.image_features import ImageFeatures
from keras_simple_diffusion.metrics.inception import InceptionFeatures
from keras_simple_diffusion.metrics.inception import inception_score
from keras_simple_diffusion.metrics.likelihood import LikelihoodBound
from keras_simple_diffusion.metrics.likelihood import bits_per_dimension
from keras_simple_diffusion.metrics.manifolds import density_coverage
from keras_simple_diffusion.metrics.manifolds import nearest_distances
from keras_simple_diffusion.metrics.manifolds import precision_recall
from keras_simple_diffusion.metrics.memorization import TrainingNeighbors
from keras_simple_diffusion.metrics.memorization import find_training_neighbors

__all__ = [
    "CLIPFeatures",
    "ClassifierOutputs",
    "DINOFeatures",
    "EfficientNetFeatures",
    "FeatureStatistics",
    "FrechetReference",
    "ImageFeatures",
    "InceptionFeatures",
    "LikelihoodBound",
    "TrainingNeighbors",
    "bits_per_dimension",
    "bootstrap_frechet_distance",
    "clip_score",
    "density_coverage",
    "extrapolated_frechet_distance",
    "feature_statistics",
    "find_training_neighbors",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "nearest_distances",
    "precision_recall",
]


def __dir__():
    return __all__
