from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer as AveragedOptimizer,
)
