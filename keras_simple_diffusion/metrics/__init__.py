from keras_simple_diffusion.metrics.classifier import (
    ClassifierOutputs as ClassifierOutputs,
)
from keras_simple_diffusion.metrics.clip import CLIPFeatures as CLIPFeatures
from keras_simple_diffusion.metrics.clip import clip_score as clip_score
from keras_simple_diffusion.metrics.dino import DINOFeatures as DINOFeatures
from keras_simple_diffusion.metrics.frechet import (
    FeatureStatistics as FeatureStatistics,
)
from keras_simple_diffusion.metrics.frechet import (
    bootstrap_frechet_distance as bootstrap_frechet_distance,
)
from keras_simple_diffusion.metrics.frechet import (
    extrapolated_frechet_distance as extrapolated_frechet_distance,
)
from keras_simple_diffusion.metrics.frechet import (
    feature_statistics as feature_statistics,
)
from keras_simple_diffusion.metrics.frechet import (
    frechet_distance as frechet_distance,
)
from keras_simple_diffusion.metrics.inception import (
    InceptionFeatures as InceptionFeatures,
)
from keras_simple_diffusion.metrics.inception import (
    inception_score as inception_score,
)
from keras_simple_diffusion.metrics.kernel_distance import (
    kernel_distance as kernel_distance,
)
from keras_simple_diffusion.metrics.likelihood import (
    LikelihoodBound as LikelihoodBound,
)
from keras_simple_diffusion.metrics.likelihood import (
    bits_per_dimension as bits_per_dimension,
)
from keras_simple_diffusion.metrics.manifolds import (
    density_coverage as density_coverage,
)
from keras_simple_diffusion.metrics.manifolds import (
    nearest_distances as nearest_distances,
)
from keras_simple_diffusion.metrics.manifolds import (
    precision_recall as precision_recall,
)
