import keras

from keras_simple_diffusion.models.multilevel_backbone import MultiLevelBackbone
from keras_simple_diffusion.models.multilevel_backbone import document_arguments
from keras_simple_diffusion.utils.errors import check_integers


@document_arguments
@keras.saving.register_keras_serializable("keras_simple_diffusion")
class UNetBackbone(MultiLevelBackbone):
    """U-Net of simple diffusion.

    A level of `n` blocks has `n` on the way down and `n + 1` on the way up,
    which take as skips the outputs of the `n` blocks and of the layer before
    them. Levels with attention have a self-attention layer after each block.
    In the middle come a block, an attention layer and a block. It does not
    support text.

    Args:
        {first_arguments}
        blocks: tuple of ints. Number of blocks of each level, counted on the
            way down.
        attention_levels: tuple of ints. Indices into `channels` of the levels
            with self-attention; negative ones count from the lowest. Defaults
            to `(-1,)`.
        {last_arguments}

    Example:
    ```python
    backbone = keras_simple_diffusion.models.UNetBackbone(
        image_shape=(32, 32, 3),
        channels=(16, 32, 64),
        blocks=(1, 1, 2),
        num_classes=10,
    )
    prediction = backbone(
        {
            "noisy_images": keras.random.normal((4, 32, 32, 3)),
            "log_snr": ops.zeros(4),
            "labels": ops.arange(4, dtype="int32"),
        }
    )  # Shape (4, 32, 32, 3).
    ```

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093)
    """

    supports_text = False

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
        portrait_flag=False,
        rematerialize=(),
        dtype=None,
        **kwargs,
    ):
        self.attention_levels = check_integers(
            "attention_levels", attention_levels, minimum=None
        )
        super().__init__(
            image_shape,
            channels,
            blocks,
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
        attention_levels = self.level_indices("attention_levels")
        lowest = len(self.blocks) - 1

        def block(level, x, name, skip=None):
            x = self.residual_block(level, x, conditions, name, skip)
            if level in attention_levels:
                x = self.self_attention(x, f"{name}_attention")
            return x

        # Way down
        skips = [x]
        for level, num_blocks in enumerate(self.blocks):
            if level > 0:
                x = self.downsample(level, x)
                skips.append(x)
            for i in range(num_blocks):
                x = block(level, x, f"down_{level}_{i}")
                skips.append(x)

        # Middle
        x = self.residual_block(lowest, x, conditions, "middle_0")
        x = self.self_attention(x, "middle_attention")
        x = self.residual_block(lowest, x, conditions, "middle_1")

        # Way up
        for level in reversed(range(len(self.blocks))):
            for i in range(self.blocks[level] + 1):
                x = block(level, x, f"up_{level}_{i}", skips.pop())
            if level > 0:
                x = self.upsample(level, x)
        return x

    def get_config(self):
        return {
            **super().get_config(),
            "attention_levels": self.attention_levels,
        }
