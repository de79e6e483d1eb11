"""Layers of the networks; feature maps have the shape `(B, H, W, C)`.

Blocks (`ResidualBlock`, `TransformerBlock`), attention, conditioning on noise
level, class and text, and changes of resolution by convolutions or wavelets.
"""

from keras_simple_diffusion.layers.attention import CrossAttention
from keras_simple_diffusion.layers.attention import SelfAttention
from keras_simple_diffusion.layers.conditioning import Conditioning
from keras_simple_diffusion.layers.conditioning import FeatureModulation
from keras_simple_diffusion.layers.resampling import Downsample2D
from keras_simple_diffusion.layers.resampling import InverseWaveletTransform2D
from keras_simple_diffusion.layers.resampling import Upsample2D
from keras_simple_diffusion.layers.resampling import WaveletTransform2D
from keras_simple_diffusion.layers.residual_block import ResidualBlock
from keras_simple_diffusion.layers.seeded_dropout import SeededDropout
from keras_simple_diffusion.layers.transformer_block import PositionEmbedding2D
from keras_simple_diffusion.layers.transformer_block import TransformerBlock

__all__ = [
    "Conditioning",
    "CrossAttention",
    "Downsample2D",
    "FeatureModulation",
    "InverseWaveletTransform2D",
    "PositionEmbedding2D",
    "ResidualBlock",
    "SeededDropout",
    "SelfAttention",
    "TransformerBlock",
    "Upsample2D",
    "WaveletTransform2D",
]


def __dir__():
    return __all__
