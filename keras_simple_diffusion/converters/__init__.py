"""Weights from and for other projects.

`from_jit` reads a checkpoint of JiT. `to_safetensors` and `from_safetensors`
exchange models as a folder of safetensors and JSON files, the form that
`diffusers` uses. No code of a file is run.
"""

from keras_simple_diffusion.converters.jit import from_jit
from keras_simple_diffusion.converters.safetensors_folder import (
    from_safetensors,
)
from keras_simple_diffusion.converters.safetensors_folder import to_safetensors

__all__ = ["from_jit", "from_safetensors", "to_safetensors"]


def __dir__():
    return __all__
