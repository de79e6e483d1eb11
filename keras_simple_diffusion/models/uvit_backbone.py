import keras

from keras_simple_diffusion.layers.position_embedding import PositionEmbedding2D
from keras_simple_diffusion.layers.resampling import Downsample2D
from keras_simple_diffusion.layers.resampling import Upsample2D
from keras_simple_diffusion.models.backbone import DiffusionBackbone


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class UViTBackbone(DiffusionBackbone):
    """U-ViT of simple diffusion: a transformer below a small U-Net.

    The lowest level is a stack of transformer blocks with residual
    connections only; that is where nearly all the compute goes. The levels
    above are those of a U-Net: `n` residual blocks on the way down, `n + 1`
    on the way up with a skip each.

    Args:
        image_shape: tuple of ints, `(height, width, channels)`. Height and
            width must be multiples of `2 ** (len(channels) - 1)`, times the
            `downsampling_factor` if there is downsampling.
        channels: tuple of ints. Width of each level, highest resolution
            first; the last is the width of the transformer.
        blocks: tuple of ints. Number of blocks of each level, counted on the
            way down; the last is the number of transformer blocks.
        num_heads: int. Number of attention heads. Defaults to `4`.
        dropout: float. Dropout rate in the blocks. Defaults to `0.0`.
        dropout_max_size: int. Levels whose shorter side is at most this have
            dropout. Defaults to `16`.
        num_classes: int or `None`. Number of classes, `None` for an
            unconditional network. Defaults to `None`.
        embedding_dim: int. Width of the conditioning. Defaults to `1024`.
        downsampling: string or `None`. What comes before the first and after
            the last level: `"dwt"`, the 5/3 wavelet transform, `"conv"`,
            convolutions with the factor as size and stride, or nothing.
            Defaults to `None`.
        downsampling_factor: int. 2, 4 or 8. Defaults to `2`.
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
        num_heads=4,
        dropout=0.0,
        dropout_max_size=16,
        num_classes=None,
        embedding_dim=1024,
        downsampling=None,
        downsampling_factor=2,
        dtype=None,
        **kwargs,
    ):
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
            dtype=dtype,
            **kwargs,
        )

    def build_levels(self, x, embedding):
        *conv_blocks, num_transformer_blocks = self.blocks
        skips = []
        for level, num_blocks in enumerate(conv_blocks):
            skips.append(x)
            for i in range(num_blocks):
                x = self.residual_block(x, embedding, f"down_{level}_{i}")
                skips.append(x)
            x = Downsample2D(
                self.channels[level + 1],
                dtype=self._block_dtype,
                name=f"downsample_{level + 1}",
            )(x)
        x = PositionEmbedding2D(dtype=self._block_dtype, name="position")(x)
        for i in range(num_transformer_blocks):
            x = self.transformer_block(x, embedding, f"transformer_{i}")
        for level in reversed(range(len(conv_blocks))):
            x = Upsample2D(
                self.channels[level],
                dtype=self._block_dtype,
                name=f"upsample_{level + 1}",
            )(x)
            for i in range(conv_blocks[level] + 1):
                x = self.residual_block(
                    x, embedding, f"up_{level}_{i}", skips.pop()
                )
        return x
