from keras_simple_diffusion.evaluation.quick_frechet import (
    QuickFrechet as QuickFrechet,
)
from keras_simple_diffusion.evaluation.reference import (
    reference_features as reference_features,
)
from keras_simple_diffusion.evaluation.scores import METRICS as METRICS
from keras_simple_diffusion.evaluation.scores import (
    compare_features as compare_features,
)
from keras_simple_diffusion.evaluation.scores import score_alone as score_alone
from keras_simple_diffusion.evaluation.shards import (
    FeatureShards as FeatureShards,
)
from keras_simple_diffusion.evaluation.shards import fill_shards as fill_shards
