from keras_simple_diffusion.distribution.batches import (
    check_batch_size as check_batch_size,
)
from keras_simple_diffusion.distribution.batches import data_shard as data_shard
from keras_simple_diffusion.distribution.batches import own_share as own_share
from keras_simple_diffusion.distribution.batches import (
    split_batch as split_batch,
)
from keras_simple_diffusion.distribution.processes import gathered as gathered
from keras_simple_diffusion.distribution.processes import (
    initialize as initialize,
)
from keras_simple_diffusion.distribution.processes import (
    is_main_process as is_main_process,
)
from keras_simple_diffusion.distribution.processes import to_numpy as to_numpy
from keras_simple_diffusion.distribution.strategies import (
    FullySharded as FullySharded,
)
from keras_simple_diffusion.distribution.strategies import (
    check_distribution as check_distribution,
)
from keras_simple_diffusion.distribution.strategies import (
    distribute as distribute,
)
