import keras

from keras_simple_diffusion.models.multilevel_backbone import MultiLevelBackbone
from keras_simple_diffusion.models.multilevel_backbone import document_arguments
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integers


@document_arguments
@keras.saving.register_keras_serializable("keras_simple_diffusion")
class UViTBackbone(MultiLevelBackbone):
    """U-ViT of simple diffusion: a transformer below a small U-Net.

    The lowest level is a stack of transformer blocks without skips, which
    takes nearly all of the compute. The levels above are those of a U-Net:
    `n` residual blocks on the way down, `n + 1` with a skip each on the way
    up. For text, the level above the lowest may also consist of transformer
    blocks, with the same numbers of blocks and the same skips.

    Args:
        {first_arguments}
        blocks: tuple of ints. Number of blocks of each level, counted on the
            way down; the last is the number of transformer blocks.
        transformer_levels: tuple of ints. Indices into `channels` of the
            levels with transformer blocks, which must include the lowest
            level; all others have residual blocks. Defaults to `(-1,)`.
        context_dim: int or `None`. Width of the text embeddings that every
            transformer block attends to; `None` for a network without text.
            Defaults to `None`.
        {last_arguments}

    Example:
    ```python
    backbone = keras_simple_diffusion.models.UViTBackbone(
        image_shape=(32, 32, 3), channels=(16, 32, 64), blocks=(1, 1, 2)
    )
    prediction = backbone(
        {
            "noisy_images": keras.random.normal((4, 32, 32, 3)),
            "log_snr": ops.zeros(4),
        }
    )  # Shape (4, 32, 32, 3).
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
        context_dim=None,
        num_heads=4,
        dropout=0.0,
        dropout_max_size=16,
        num_classes=None,
        embedding_dim=1024,
        downsampling=None,
        downsampling_factor=2,
        portrait_flag=False,
        rematerialize=(),
        dtype=None,
        **kwargs,
    ):
        self.transformer_levels = check_integers(
            "transformer_levels", transformer_levels, minimum=None
        )
        super().__init__(
            image_shape,
            channels,
            blocks,
            context_dim=context_dim,
            num_heads=num_heads,
            dropout=dropout,
            dropout_max_size=dropout_max_size,
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            downsampling=downsampling,
            downsampling_factor=downsampling_factor,
            portrait_flag=portrait_flag,
            rematerialize=rematerialize,
            dtype=dtype,
            **kwargs,
        )

    def build_levels(self, x, conditions):
        transformer_levels = self.level_indices("transformer_levels")
        *upper_blocks, num_lowest_blocks = self.blocks
        lowest = len(upper_blocks)
        if lowest not in transformer_levels:
            raise InputError(
                "`transformer_levels` must include the lowest level, -1. "
                f"Received: transformer_levels={self.transformer_levels}"
            )

        def enter(level, x):
            if level in transformer_levels:
                return self.position_embedding(level, x)
            return x

        def block(level, x, name, skip=None):
            if level in transformer_levels:
                return self.transformer_block(level, x, conditions, name, skip)
            return self.residual_block(level, x, conditions, name, skip)

        # Way down
        skips = []
        for level, num_blocks in enumerate(upper_blocks):
            x = enter(level, x)
            skips.append(x)
            for i in range(num_blocks):
                x = block(level, x, f"down_{level}_{i}")
                skips.append(x)
            x = self.downsample(level + 1, x)

        # Lowest level
        x = enter(lowest, x)
        for i in range(num_lowest_blocks):
            x = block(lowest, x, f"transformer_{i}")

        # Way up
        for level in reversed(range(lowest)):
            x = self.upsample(level + 1, x)
            for i in range(upper_blocks[level] + 1):
                x = block(level, x, f"up_{level}_{i}", skips.pop())
        return x

    def get_config(self):
        return {
            **super().get_config(),
            "transformer_levels": self.transformer_levels,
        }
