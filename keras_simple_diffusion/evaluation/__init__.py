from keras_simple_diffusion.evaluation.reference import (
    reference_features as reference_features,
)
from keras_simple_diffusion.evaluation.scores import METRICS as METRICS
from keras_simple_diffusion.evaluation.scores import (
    compute_scores as compute_scores,
)
from keras_simple_diffusion.evaluation.shards import (
    FeatureShards as FeatureShards,
)
