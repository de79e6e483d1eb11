import keras

from keras_simple_diffusion.layers.resampling import Downsample2D
from keras_simple_diffusion.layers.resampling import Upsample2D
from keras_simple_diffusion.layers.transformer_block import PositionEmbedding2D
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.utils.errors import InputError


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ResidualUViTBackbone(DiffusionBackbone):
    """Residual U-ViT of SiD2: one residual connection a level, no skips.

    A level passes its images down, and adds what the levels below changed
    of them:

    ```
    h = blocks_down(x)
    d = downsample(h)
    x = blocks_up(upsample(lower_levels(d) - d) + h)
    ```

    The transformer blocks modulate their normalised input, not the four times
    wider hidden layer, which fits the model size that the paper's costs imply.
    Nothing but `h` is kept on the way down, which saves the memory of the
    U-Net's skips, and the network starts as the identity. Since ways up and
    down are not paired, they may have different numbers of blocks.

    Args:
        image_shape: tuple of ints, `(height, width, channels)`. Height and
            width must be multiples of `2 ** (len(channels) - 1)`, times the
            `downsampling_factor` if there is downsampling.
        channels: tuple of ints. Width of each level, highest resolution
            first.
        blocks: tuple of ints. Number of blocks of each level on the way down;
            the last is the number of blocks of the lowest level.
        up_blocks: tuple of ints or `None`. Number of blocks on the way up of
            each level but the lowest. Defaults to those on the way down.
        transformer_levels: tuple of ints. Indices into `channels` of the
            levels of transformer blocks; the others are convolutional.
            Defaults to `(-1,)`.
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
    backbone = keras_simple_diffusion.models.ResidualUViTBackbone(
        image_shape=(64, 64, 3), channels=(32, 64, 256), blocks=(2, 2, 6),
        up_blocks=(3, 3),
    )
    velocity = backbone({
        "noisy_images": keras.random.normal((4, 64, 64, 3)),
        "log_snr": np.zeros(4, "float32"),
    })
    ```

    References:
        - [Hoogeboom et al., 2024](https://arxiv.org/abs/2410.19324)
    """

    def __init__(
        self,
        image_shape,
        channels,
        blocks,
        up_blocks=None,
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
        num_levels = len(channels)
        self.up_blocks = tuple(blocks[:-1] if up_blocks is None else up_blocks)
        if (
            len(self.up_blocks) != num_levels - 1
            or min(self.up_blocks, default=0) < 0
        ):
            raise InputError(
                f"`up_blocks` needs {num_levels - 1} entries of at least 0, one"
                " for each level but the lowest. Received: "
                f"up_blocks={up_blocks}"
            )
        self.transformer_levels = tuple(transformer_levels)
        self._transformer_set = self.level_indices(
            "transformer_levels", transformer_levels, num_levels
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

    def build_levels(self, x, conditions, level=0):
        if level == 0:
            x = self._enter(level, x)
        is_lowest = level == len(self.channels) - 1
        kind = "middle" if is_lowest else f"down_{level}"
        x = self._blocks(level, x, conditions, self.blocks[level], kind)
        if is_lowest:
            return x
        below = Downsample2D(
            self.channels[level + 1],
            dtype=self._block_dtype,
            name=f"downsample_{level + 1}",
        )(x)
        below = self._enter(level + 1, below)
        change = self.build_levels(below, conditions, level + 1) - below
        x = x + Upsample2D(
            self.channels[level],
            dtype=self._block_dtype,
            name=f"upsample_{level + 1}",
        )(change)
        return self._blocks(
            level, x, conditions, self.up_blocks[level], f"up_{level}"
        )

    def _enter(self, level, x):
        if level not in self._transformer_set:
            return x
        return PositionEmbedding2D(
            dtype=self._block_dtype, name=f"position_{level}"
        )(x)

    def _blocks(self, level, x, conditions, count, name):
        for i in range(count):
            if level in self._transformer_set:
                x = self.transformer_block(
                    level, x, conditions, f"{name}_{i}", modulation="norm"
                )
            else:
                x = self.residual_block(level, x, conditions, f"{name}_{i}")
        return x

    def get_config(self):
        return {
            **super().get_config(),
            "up_blocks": self.up_blocks,
            "transformer_levels": self.transformer_levels,
            "context_dim": self.context_dim,
            "portrait_flag": self.portrait_flag,
        }
