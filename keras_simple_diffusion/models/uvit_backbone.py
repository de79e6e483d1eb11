import keras

from keras_simple_diffusion.layers.resampling import Downsample2D
from keras_simple_diffusion.layers.resampling import Upsample2D
from keras_simple_diffusion.layers.transformer_block import PositionEmbedding2D
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.utils.errors import InputError


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class UViTBackbone(DiffusionBackbone):
    """U-ViT of simple diffusion: a transformer below a small U-Net.

    The lowest level is a stack of transformer blocks with residual
    connections only; that is where nearly all the compute goes. The levels
    above are those of a U-Net: `n` residual blocks on the way down, `n + 1`
    on the way up with a skip each. For text the level above the lowest may
    have transformer blocks too, `n` and `n + 1` of them with skips.

    Args:
        image_shape: tuple of ints, `(height, width, channels)`. Height and
            width must be multiples of `2 ** (len(channels) - 1)`, times the
            `downsampling_factor` if there is downsampling.
        channels: tuple of ints. Width of each level, highest resolution
            first; the last is the width of the transformer.
        blocks: tuple of ints. Number of blocks of each level, counted on the
            way down; the last is the number of transformer blocks.
        transformer_levels: tuple of ints. Indices into `channels` of the
            levels of transformer blocks, the lowest among them; the others
            are convolutional. Defaults to `(-1,)`.
        num_heads: int. Number of attention heads. Defaults to `4`.
        dropout: float, or tuple of floats, one a level. Dropout rate in the
            blocks. Defaults to `0.0`.
        dropout_max_size: int. Where `dropout` is one number, levels whose
            shorter side is at most this have it. Defaults to `16`.
        num_classes: int or `None`. Number of classes, `None` for an
            unconditional network. Defaults to `None`.
        embedding_dim: int. Width of the conditioning. Defaults to `1024`.
        downsampling: string or `None`. What comes before the first and after
            the last level: `"dwt"`, the 5/3 wavelet transform, `"conv"`,
            convolutions with the factor as size and stride, or nothing.
            Defaults to `None`.
        downsampling_factor: int. 2, 4 or 8. Defaults to `2`.
        context_dim: int or `None`. Width of the text embeddings that every
            transformer block attends to; `None` for a network without text.
            Defaults to `None`.
        portrait_flag: bool. Whether an input says that the image is a
            portrait lying on its side. Defaults to `False`.
        rematerialize: tuple of strings. Types of blocks, among `"residual"`,
            `"attention"` and `"transformer"`, that are computed a second time
            for the gradient instead of kept in memory. Defaults to `()`.
        dtype: dtype policy of the blocks. The first and last convolution and
            the conditioning stay float32.
        **kwargs: base `keras_hub.models.Backbone` arguments.

    Example:
    ```python
    backbone = keras_simple_diffusion.models.UViTBackbone(
        image_shape=(64, 64, 3), channels=(32, 64, 256), blocks=(2, 2, 6),
    )
    velocity = backbone({
        "noisy_images": keras.random.normal((4, 64, 64, 3)),
        "log_snr": np.zeros(4, "float32"),
    })
    ```

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093)
    """

    def __init__(
        self,
        image_shape,
        channels,
        blocks,
        transformer_levels=(-1,),
        num_heads=4,
        dropout=0.0,
        dropout_max_size=16,
        num_classes=None,
        embedding_dim=1024,
        downsampling=None,
        downsampling_factor=2,
        context_dim=None,
        portrait_flag=False,
        rematerialize=(),
        dtype=None,
        **kwargs,
    ):
        self.transformer_levels = tuple(transformer_levels)
        self._transformer_set = self.level_indices(
            "transformer_levels", transformer_levels, len(channels)
        )
        if len(channels) - 1 not in self._transformer_set:
            raise InputError(
                "`transformer_levels` must include the lowest level, -1. "
                f"Received: transformer_levels={self.transformer_levels}"
            )
        super().__init__(
            image_shape=image_shape,
            channels=channels,
            blocks=blocks,
            num_heads=num_heads,
            dropout=dropout,
            dropout_max_size=dropout_max_size,
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            downsampling=downsampling,
            downsampling_factor=downsampling_factor,
            context_dim=context_dim,
            portrait_flag=portrait_flag,
            rematerialize=rematerialize,
            dtype=dtype,
            **kwargs,
        )

    def build_levels(self, x, conditions):
        *upper_blocks, num_lowest_blocks = self.blocks
        lowest = len(upper_blocks)
        skips = []
        for level, num_blocks in enumerate(upper_blocks):
            x = self._enter(level, x)
            skips.append(x)
            for i in range(num_blocks):
                x = self._block(level, x, conditions, f"down_{level}_{i}")
                skips.append(x)
            x = Downsample2D(
                self.channels[level + 1],
                dtype=self._block_dtype,
                name=f"downsample_{level + 1}",
            )(x)
        x = self._enter(lowest, x)
        for i in range(num_lowest_blocks):
            x = self._block(lowest, x, conditions, f"transformer_{i}")
        for level in reversed(range(lowest)):
            x = Upsample2D(
                self.channels[level],
                dtype=self._block_dtype,
                name=f"upsample_{level + 1}",
            )(x)
            for i in range(upper_blocks[level] + 1):
                x = self._block(
                    level, x, conditions, f"up_{level}_{i}", skips.pop()
                )
        return x

    def _enter(self, level, x):
        if level not in self._transformer_set:
            return x
        return PositionEmbedding2D(
            dtype=self._block_dtype, name=f"position_{level}"
        )(x)

    def _block(self, level, x, conditions, name, skip=None):
        if level in self._transformer_set:
            return self.transformer_block(level, x, conditions, name, skip)
        return self.residual_block(level, x, conditions, name, skip)

    def get_config(self):
        return {
            **super().get_config(),
            "transformer_levels": self.transformer_levels,
            "context_dim": self.context_dim,
            "portrait_flag": self.portrait_flag,
        }
