import keras

from keras_simple_diffusion.layers.attention import SelfAttention
from keras_simple_diffusion.layers.resampling import Downsample2D
from keras_simple_diffusion.layers.resampling import Upsample2D
from keras_simple_diffusion.models.backbone import DiffusionBackbone


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class UNetBackbone(DiffusionBackbone):
    """U-Net of simple diffusion.

    A level of `n` blocks has `n` on the way down and `n + 1` on the way up,
    which take as skips the outputs of the `n` blocks and of the layer before
    them. Levels with attention have a self-attention layer after each block.
    In the middle come a block, an attention layer and a block.

    Args:
        image_shape: tuple of ints, `(height, width, channels)`. Height and
            width must be multiples of `2 ** (len(channels) - 1)`, times the
            `downsampling_factor` if there is downsampling.
        channels: tuple of ints. Width of each level, highest resolution
            first.
        blocks: tuple of ints. Number of blocks of each level, counted on the
            way down.
        attention_levels: tuple of ints. Indices into `channels` of the levels
            with self-attention; negative ones count from the lowest. Defaults
            to `(-1,)`.
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
        rematerialize: tuple of strings. Types of blocks, among `"residual"`,
            `"attention"` and `"transformer"`, that are computed a second time
            for the gradient instead of kept in memory. Defaults to `()`.
        dtype: dtype policy of the blocks. The first and last convolution and
            the conditioning stay float32.
        **kwargs: base `keras_hub.models.Backbone` arguments.

    Example:
    ```python
    backbone = keras_simple_diffusion.models.UNetBackbone(
        image_shape=(64, 64, 3), channels=(64, 128, 256), blocks=(2, 2, 4),
        num_classes=10,
    )
    velocity = backbone({
        "noisy_images": keras.random.normal((4, 64, 64, 3)),
        "log_snr": np.zeros(4, "float32"),
        "labels": np.arange(4, dtype="int32"),
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
        attention_levels=(-1,),
        num_heads=4,
        dropout=0.0,
        dropout_max_size=16,
        num_classes=None,
        embedding_dim=1024,
        downsampling=None,
        downsampling_factor=2,
        rematerialize=(),
        dtype=None,
        **kwargs,
    ):
        self.attention_levels = tuple(attention_levels)
        self._attention_set = self.level_indices(
            "attention_levels", attention_levels, len(channels)
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
            rematerialize=rematerialize,
            dtype=dtype,
            **kwargs,
        )

    def build_levels(self, x, conditions):
        skips = [x]
        for level, num_blocks in enumerate(self.blocks):
            if level > 0:
                x = Downsample2D(
                    self.channels[level],
                    dtype=self._block_dtype,
                    name=f"downsample_{level}",
                )(x)
                skips.append(x)
            for i in range(num_blocks):
                x = self._block(level, x, conditions, f"down_{level}_{i}")
                skips.append(x)
        lowest = len(self.blocks) - 1
        x = self.residual_block(lowest, x, conditions, "middle_0")
        x = self._attention(x, "middle_attention")
        x = self.residual_block(lowest, x, conditions, "middle_1")
        for level in reversed(range(len(self.blocks))):
            for i in range(self.blocks[level] + 1):
                x = self._block(
                    level, x, conditions, f"up_{level}_{i}", skips.pop()
                )
            if level > 0:
                x = Upsample2D(
                    self.channels[level - 1],
                    dtype=self._block_dtype,
                    name=f"upsample_{level}",
                )(x)
        return x

    def _block(self, level, x, conditions, name, skip=None):
        x = self.residual_block(level, x, conditions, name, skip)
        if level in self._attention_set:
            x = self._attention(x, f"{name}_attention")
        return x

    def _attention(self, x, name):
        return SelfAttention(
            self.num_heads,
            rematerialize="attention" in self.rematerialize,
            dtype=self._block_dtype,
            name=name,
        )(x)

    def get_config(self):
        return {
            **super().get_config(),
            "attention_levels": self.attention_levels,
        }
