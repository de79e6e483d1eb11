from keras_simple_diffusion.layers.attention import (
    CrossAttention as CrossAttention,
)
from keras_simple_diffusion.layers.attention import (
    SelfAttention as SelfAttention,
)
from keras_simple_diffusion.layers.conditioning import (
    Conditioning as Conditioning,
)
from keras_simple_diffusion.layers.conditioning import (
    FeatureModulation as FeatureModulation,
)
from keras_simple_diffusion.layers.resampling import (
    Downsample2D as Downsample2D,
)
from keras_simple_diffusion.layers.resampling import (
    InverseWaveletTransform2D as InverseWaveletTransform2D,
)
from keras_simple_diffusion.layers.resampling import Upsample2D as Upsample2D
from keras_simple_diffusion.layers.resampling import (
    WaveletTransform2D as WaveletTransform2D,
)
from keras_simple_diffusion.layers.residual_block import (
    ResidualBlock as ResidualBlock,
)
from keras_simple_diffusion.layers.seeded_dropout import (
    SeededDropout as SeededDropout,
)
from keras_simple_diffusion.layers.transformer_block import (
    PositionEmbedding2D as PositionEmbedding2D,
)
from keras_simple_diffusion.layers.transformer_block import (
    TransformerBlock as TransformerBlock,
)
