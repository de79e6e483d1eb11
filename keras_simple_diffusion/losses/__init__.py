from keras_simple_diffusion.losses.diffusion_loss import (
    DiffusionLoss as DiffusionLoss,
)
from keras_simple_diffusion.losses.diffusion_loss import (
    multiscale_mse as multiscale_mse,
)
from keras_simple_diffusion.losses.level_loss import LevelLoss as LevelLoss
from keras_simple_diffusion.losses.loss_weighting import (
    LossWeighting as LossWeighting,
)
from keras_simple_diffusion.losses.loss_weighting import (
    MinSNRWeighting as MinSNRWeighting,
)
from keras_simple_diffusion.losses.loss_weighting import (
    SigmoidWeighting as SigmoidWeighting,
)
