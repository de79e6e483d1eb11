from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer as AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.warm_up import WarmUp as WarmUp
