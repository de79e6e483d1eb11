from keras_simple_diffusion.optimizers import reconstruction as reconstruction
from keras_simple_diffusion.optimizers.adam import Adam as Adam
from keras_simple_diffusion.optimizers.adam import AdamW as AdamW
from keras_simple_diffusion.optimizers.adam import Muon as Muon
from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer as AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.make_optimizer import WarmUp as WarmUp
from keras_simple_diffusion.optimizers.make_optimizer import (
    make_optimizer as make_optimizer,
)
from keras_simple_diffusion.optimizers.profiles import (
    AverageProfile as AverageProfile,
)
from keras_simple_diffusion.optimizers.profiles import (
    ExponentialProfile as ExponentialProfile,
)
from keras_simple_diffusion.optimizers.profiles import (
    PowerProfile as PowerProfile,
)
from keras_simple_diffusion.optimizers.watched_optimizer import (
    WatchedOptimizer as WatchedOptimizer,
)
from keras_simple_diffusion.optimizers.wrapper import (
    find_optimizer as find_optimizer,
)
