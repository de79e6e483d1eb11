"""Layers of the networks; feature maps have the shape `(B, H, W, C)`.

Blocks (`ResidualBlock`, `TransformerBlock`), attention, conditioning on noise
level, class and text, and changes of resolution by convolutions or wavelets.
`PixelTransformerBlock` acts on tokens, `(B, N, C)`.
"""

from keras_simple_diffusion.layers.attention import CrossAttention
from keras_simple_diffusion.layers.attention import SelfAttention
from keras_simple_diffusion.layers.class_tokens import ClassTokens
from keras_simple_diffusion.layers.conditioning import Conditioning
from keras_simple_diffusion.layers.conditioning import FeatureModulation
from keras_simple_diffusion.layers.flow_conditioning import FlowConditioning
from keras_simple_diffusion.layers.flow_conditioning import FlowState
from keras_simple_diffusion.layers.patches import JoinPatches
from keras_simple_diffusion.layers.pixel_transformer_block import ModulatedNorm
from keras_simple_diffusion.layers.pixel_transformer_block import (
    PixelTransformerBlock,
)
from keras_simple_diffusion.layers.positions import RotaryPositions2D
from keras_simple_diffusion.layers.positions import SinusoidalPositions2D
from keras_simple_diffusion.layers.resampling import Downsample2D
from keras_simple_diffusion.layers.resampling import InverseWaveletTransform2D
from keras_simple_diffusion.layers.resampling import Upsample2D
from keras_simple_diffusion.layers.resampling import WaveletTransform2D
from keras_simple_diffusion.layers.residual_block import ResidualBlock
from keras_simple_diffusion.layers.rotary_attention import RotaryAttention
from keras_simple_diffusion.layers.seeded_dropout import SeededDropout
from keras_simple_diffusion.layers.transformer_block import PositionEmbedding2D
from keras_simple_diffusion.layers.transformer_block import TransformerBlock

__all__ = [
    "ClassTokens",
    "Conditioning",
    "CrossAttention",
    "Downsample2D",
    "FeatureModulation",
    "FlowConditioning",
    "FlowState",
    "InverseWaveletTransform2D",
    "JoinPatches",
    "ModulatedNorm",
    "PixelTransformerBlock",
    "PositionEmbedding2D",
    "ResidualBlock",
    "RotaryAttention",
    "RotaryPositions2D",
    "SeededDropout",
    "SelfAttention",
    "SinusoidalPositions2D",
    "TransformerBlock",
    "Upsample2D",
    "WaveletTransform2D",
]


def __dir__():
    return __all__
