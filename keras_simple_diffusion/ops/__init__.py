from keras_simple_diffusion.ops import random as random
from keras_simple_diffusion.ops.diffusion import alpha_sigma as alpha_sigma
from keras_simple_diffusion.ops.diffusion import (
    convert_prediction as convert_prediction,
)
from keras_simple_diffusion.ops.diffusion import diffuse as diffuse
from keras_simple_diffusion.ops.diffusion import error_scale as error_scale
from keras_simple_diffusion.ops.diffusion import expand_like as expand_like
from keras_simple_diffusion.ops.diffusion import from_uint8 as from_uint8
from keras_simple_diffusion.ops.diffusion import to_uint8 as to_uint8
from keras_simple_diffusion.ops.wavelet import dwt2 as dwt2
from keras_simple_diffusion.ops.wavelet import idwt2 as idwt2
