import inspect

from keras import layers

from keras_simple_diffusion.backend.activations import silu
from keras_simple_diffusion.layers.attention import SelfAttention
from keras_simple_diffusion.layers.fused_layers import Conv2D
from keras_simple_diffusion.layers.resampling import Downsample2D
from keras_simple_diffusion.layers.resampling import InverseWaveletTransform2D
from keras_simple_diffusion.layers.resampling import Upsample2D
from keras_simple_diffusion.layers.resampling import WaveletTransform2D
from keras_simple_diffusion.layers.residual_block import ResidualBlock
from keras_simple_diffusion.layers.transformer_block import PositionEmbedding2D
from keras_simple_diffusion.layers.transformer_block import TransformerBlock
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_choice
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.errors import check_integers
from keras_simple_diffusion.utils.errors import is_rate

_FIRST_ARGUMENTS = """\
    image_shape: tuple of ints, `(height, width, channels)`. Height and
        width must be multiples of `2 ** (len(channels) - 1)`, times the
        `downsampling_factor` if there is downsampling.
    channels: tuple of ints. Number of channels of each level, highest
        resolution first.
"""
_LAST_ARGUMENTS = """\
    num_heads: int. Number of attention heads. Defaults to `4`.
    dropout: float, or tuple of floats, one for each level. Dropout rate
        in the blocks. Defaults to `0.0`.
    dropout_max_size: int. If `dropout` is one number, it applies to levels
        whose shorter side is at most this. Defaults to `16`.
    num_classes: int or `None`. Number of classes, `None` for a network
        without classes. Defaults to `None`.
    embedding_dim: int. Width of the embedding of the conditions, an even
        number. Defaults to `1024`.
    downsampling: string or `None`. Downsampling of the images before the
        first level, undone after the last: `"dwt"`, the 5/3 wavelet
        transform; `"conv"`, convolutions with the factor as kernel size
        and stride; or `None`. Defaults to `None`.
    downsampling_factor: int. 2, 4 or 8. Defaults to `2`.
    portrait_flag: bool. Whether an input tells portrait images, rotated to
        landscape, from landscape images. Defaults to `False`.
    rematerialize: tuple of strings. Types of blocks, among `"residual"`,
        `"attention"` and `"transformer"`, that are recomputed in the
        backward pass instead of storing their activations. Defaults to
        `()`.
    dtype: dtype policy of the blocks. The first and last convolution and
        the conditioning are float32.
    **kwargs: base `keras_hub.models.Backbone` arguments.
"""


def document_arguments(cls):
    """Insert the descriptions of the shared arguments into a docstring.

    `{first_arguments}` and `{last_arguments}` stand for them.
    """
    if cls.__doc__:  # There is none under `python -OO`.
        cls.__doc__ = (
            inspect.cleandoc(cls.__doc__)
            .replace("    {first_arguments}\n", _FIRST_ARGUMENTS)
            .replace("    {last_arguments}\n", _LAST_ARGUMENTS)
        )
    return cls


@document_arguments
class MultiLevelBackbone(DiffusionBackbone):
    """Base class of the networks with levels of falling resolution.

    Each level halves the resolution of the one above. This class defines the
    first and last layers and makes the layers of the levels; a subclass
    connects them in `build_levels`.

    Args:
        {first_arguments}
        blocks: tuple of ints. Number of blocks of each level.
        context_dim: int or `None`. Width of the text embeddings, `None` for a
            network without text. Defaults to `None`.
        {last_arguments}
    """

    layer_types = (
        *DiffusionBackbone.layer_types,
        Downsample2D,
        PositionEmbedding2D,
        ResidualBlock,
        SelfAttention,
        TransformerBlock,
        Upsample2D,
    )

    def __init__(
        self,
        image_shape,
        channels,
        blocks,
        num_heads=4,
        dropout=0.0,
        dropout_max_size=16,
        downsampling=None,
        downsampling_factor=2,
        **kwargs,
    ):
        self.channels = check_integers("channels", channels)
        self.blocks = check_integers("blocks", blocks, minimum=0)
        if not self.channels or len(self.channels) != len(self.blocks):
            raise InputError(
                "`channels` and `blocks` need one entry for each level. "
                f"Received: channels={channels}, blocks={blocks}"
            )
        self.num_heads = check_integer("num_heads", num_heads)
        self.dropout = self._check_dropout(dropout)
        self.dropout_max_size = check_integer(
            "dropout_max_size", dropout_max_size, minimum=0
        )
        self.downsampling = check_choice(
            "downsampling", downsampling, (None, "dwt", "conv")
        )
        self.downsampling_factor = check_choice(
            "downsampling_factor", downsampling_factor, (2, 4, 8)
        )
        super().__init__(image_shape, **kwargs)

    @property
    def total_downsampling(self):
        """Ratio of the image size to the size of the lowest level."""
        return self.side_divisor(vars(self))

    @classmethod
    def side_divisor(cls, config):
        factor = 1
        if config.get("downsampling") is not None:
            factor = config.get("downsampling_factor", 2)
        return factor * 2 ** (len(config["channels"]) - 1)

    def build_network(self, images, conditions):
        self._check_sides()
        x = self._encode(images)
        x = self.build_levels(x, conditions)
        dtype = self.block_dtype
        x = layers.RMSNormalization(dtype=dtype, name="output_norm")(x)
        x = layers.Activation(silu, dtype=dtype, name="output_silu")(x)
        return self._decode(x)

    def build_levels(self, x, conditions):
        """Apply the layers between the first and the last convolution.

        Args:
            x: symbolic tensor of shape `(B, H, W, channels[0])`.
            conditions: dict of symbolic tensors, see `build_network`.

        Returns:
            A symbolic tensor of the shape of `x`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `build_levels`."
        )

    # === Layers of the levels ===

    def residual_block(self, level, x, conditions, name, skip=None):
        """Apply a new `ResidualBlock`."""
        block = ResidualBlock(
            dropout=self._dropout_at(level, x),
            rematerialize="residual" in self.rematerialize,
            dtype=self.block_dtype,
            name=name,
        )
        return block(x, conditions["embedding"], skip=skip)

    def transformer_block(
        self, level, x, conditions, name, skip=None, modulation="hidden"
    ):
        """Apply a new `TransformerBlock`."""
        block = TransformerBlock(
            self.num_heads,
            dropout=self._dropout_at(level, x),
            modulation=modulation,
            rematerialize="transformer" in self.rematerialize,
            dtype=self.block_dtype,
            name=name,
        )
        return block(x, skip=skip, **conditions)

    def self_attention(self, x, name):
        """Apply a new `SelfAttention`."""
        return SelfAttention(
            self.num_heads,
            rematerialize="attention" in self.rematerialize,
            dtype=self.block_dtype,
            name=name,
        )(x)

    def position_embedding(self, level, x):
        """Apply a new `PositionEmbedding2D`."""
        return PositionEmbedding2D(
            dtype=self.block_dtype, name=f"position_{level}"
        )(x)

    def downsample(self, level, x):
        """Apply a new `Downsample2D`, from the level above to `level`."""
        return Downsample2D(
            self.channels[level],
            dtype=self.block_dtype,
            name=f"downsample_{level}",
        )(x)

    def upsample(self, level, x):
        """Apply a new `Upsample2D`, from `level` to the level above."""
        return Upsample2D(
            self.channels[level - 1],
            dtype=self.block_dtype,
            name=f"upsample_{level}",
        )(x)

    def level_indices(self, name):
        """Return the levels that an attribute names, as indices from 0.

        Args:
            name: string. Name of the attribute, a tuple of indices into
                `channels` of which negative ones count from the lowest.

        Returns:
            A set of ints.
        """
        levels, count = getattr(self, name), len(self.channels)
        if any(not -count <= level < count for level in levels):
            raise InputError(
                f"`{name}` must index the {count} levels of `channels`. "
                f"Received: {name}={levels}"
            )
        return {level % count for level in levels}

    def _dropout_at(self, level, x):
        if isinstance(self.dropout, tuple):
            return self.dropout[level]
        size = min(x.shape[1:3])
        return self.dropout if size <= self.dropout_max_size else 0.0

    # === First and last layers ===
    # They are float32: half precision would round away the noise of nearly
    # clean images, and quantize the colors of the output.

    def _encode(self, images):
        if self.downsampling == "conv":
            return self._end_convolution(
                self.channels[0],
                "input_conv",
                kernel_size=self.downsampling_factor,
                strides=self.downsampling_factor,
            )(images)
        if self.downsampling == "dwt":
            images = WaveletTransform2D(self._wavelet_levels, name="dwt")(
                images
            )
        return self._end_convolution(self.channels[0], "input_conv")(images)

    def _decode(self, x):
        channels = self.image_shape[-1]
        if self.downsampling == "conv":
            return layers.Conv2DTranspose(
                channels,
                self.downsampling_factor,
                strides=self.downsampling_factor,
                data_format="channels_last",
                kernel_initializer="zeros",
                dtype="float32",
                name="output_conv",
            )(x)
        if self.downsampling == "dwt":
            channels *= self.downsampling_factor**2
        x = self._end_convolution(
            channels, "output_conv", kernel_initializer="zeros"
        )(x)
        if self.downsampling == "dwt":
            x = InverseWaveletTransform2D(self._wavelet_levels, name="idwt")(x)
        return x

    def _end_convolution(self, channels, name, kernel_size=3, **kwargs):
        return Conv2D(
            channels, kernel_size, dtype="float32", name=name, **kwargs
        )

    @property
    def _wavelet_levels(self):
        return self.downsampling_factor.bit_length() - 1

    # === Checks ===

    def _check_sides(self):
        factor = self.total_downsampling
        height, width, _ = self.image_shape
        if height % factor or width % factor:
            fitting = [
                max(round(side / factor), 1) * factor
                for side in (height, width)
            ]
            raise InputError(
                "The height and width of `image_shape` must be multiples of "
                f"{factor}, such as {fitting[0]}x{fitting[1]}. "
                f"Received: image_shape={self.image_shape}"
            )

    def _check_dropout(self, dropout):
        count = len(self.channels)
        is_tuple = isinstance(dropout, (tuple, list))
        rates = tuple(dropout) if is_tuple else (dropout,) * count
        if len(rates) != count or not all(map(is_rate, rates)):
            raise InputError(
                "`dropout` must be a number in [0, 1), or a tuple of such "
                f"numbers, one for each level. Received: dropout={dropout!r}"
            )
        return rates if is_tuple else dropout

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "blocks": self.blocks,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "dropout_max_size": self.dropout_max_size,
            "downsampling": self.downsampling,
            "downsampling_factor": self.downsampling_factor,
        }
