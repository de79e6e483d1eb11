"""Functions of tensors: the diffusion process, wavelets, random numbers.

The process is variance preserving and a function of the log-SNR. `dwt2` and
`idwt2` are the 5/3 wavelet transform and its exact inverse. `random` draws
numbers that depend on a seed and an index alone.
"""

from keras_simple_diffusion.ops import random
from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.ops.diffusion import error_scale
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.ops.diffusion import from_uint8
from keras_simple_diffusion.ops.diffusion import make_target
from keras_simple_diffusion.ops.diffusion import to_flow
from keras_simple_diffusion.ops.diffusion import to_uint8
from keras_simple_diffusion.ops.wavelet import dwt2
from keras_simple_diffusion.ops.wavelet import idwt2

__all__ = [
    "alpha_sigma",
    "convert_prediction",
    "diffuse",
    "dwt2",
    "error_scale",
    "expand_like",
    "from_uint8",
    "idwt2",
    "make_target",
    "random",
    "to_flow",
    "to_uint8",
]


def __dir__():
    return __all__
