"""Models that train and generate, and their networks.

`DiffusionModel` is conditioned on classes or on nothing, `TextToImage` on
texts. Their networks are `UNetBackbone`, `UViTBackbone`,
`ResidualUViTBackbone` and `PixelTransformerBackbone`. A `Preset` holds the
configuration and weights of a model of any of these classes.
"""

from keras_simple_diffusion.generation.values import UnusualDataWarning
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.models.diffusion_model import DiffusionModel
from keras_simple_diffusion.models.pixel_transformer_backbone import (
    PixelTransformerBackbone,
)
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.models.residual_uvit_backbone import (
    ResidualUViTBackbone,
)
from keras_simple_diffusion.models.setting_warnings import UnusualSettingWarning
from keras_simple_diffusion.models.text_to_image import TextToImage
from keras_simple_diffusion.models.transfer import transfer_weights
from keras_simple_diffusion.models.unet_backbone import UNetBackbone
from keras_simple_diffusion.models.uvit_backbone import UViTBackbone
from keras_simple_diffusion.utils.presets import builtin_presets

__all__ = [
    "DiffusionBackbone",
    "DiffusionModel",
    "PixelTransformerBackbone",
    "Preset",
    "ResidualUViTBackbone",
    "TextToImage",
    "UNetBackbone",
    "UViTBackbone",
    "UnusualDataWarning",
    "UnusualSettingWarning",
    "builtin_presets",
    "count_macs",
    "transfer_weights",
]


def __dir__():
    return __all__
