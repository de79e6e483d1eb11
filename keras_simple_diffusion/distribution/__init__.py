"""Training and sampling on several devices and in several processes.

`distribute` is the context for all strategies, `initialize` joins processes.
The other functions split batches over devices and collect results.
"""

from keras_simple_diffusion.distribution.batches import check_batch_size
from keras_simple_diffusion.distribution.batches import data_shard
from keras_simple_diffusion.distribution.batches import num_batch_parts
from keras_simple_diffusion.distribution.batches import own_share
from keras_simple_diffusion.distribution.batches import split_batch
from keras_simple_diffusion.distribution.processes import gathered
from keras_simple_diffusion.distribution.processes import initialize
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.distribution.strategies import FullySharded
from keras_simple_diffusion.distribution.strategies import check_distribution
from keras_simple_diffusion.distribution.strategies import distribute

__all__ = [
    "FullySharded",
    "check_batch_size",
    "check_distribution",
    "data_shard",
    "distribute",
    "gathered",
    "initialize",
    "is_main_process",
    "num_batch_parts",
    "own_share",
    "split_batch",
    "to_numpy",
]


def __dir__():
    return __all__
