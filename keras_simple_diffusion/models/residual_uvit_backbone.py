import keras

from keras_simple_diffusion.models.multilevel_backbone import MultiLevelBackbone
from keras_simple_diffusion.models.multilevel_backbone import document_arguments
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integers


@document_arguments
@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ResidualUViTBackbone(MultiLevelBackbone):
    """Residual U-ViT of SiD2: one residual connection per level, no skips.

    A level passes its feature map down, and adds the change that the levels
    below made to it:

    ```
    h = blocks_down(x)
    d = downsample(h)
    x = blocks_up(upsample(lower_levels(d) - d) + h)
    ```

    Only `h` is kept on the way down, which saves the memory of the U-Net's
    skips, and the network is initialized as the identity. Since blocks on the
    ways down and up are not paired, their numbers may differ. The transformer
    blocks modulate their normalized input, not the four times wider hidden
    layer, which fits the model size that the paper's costs imply.

    Args:
        {first_arguments}
        blocks: tuple of ints. Number of blocks of each level on the way down;
            the last is the number of blocks of the lowest level.
        up_blocks: tuple of ints or `None`. Number of blocks on the way up of
            each level but the lowest. Defaults to those on the way down.
        transformer_levels: tuple of ints. Indices into `channels` of the
            levels of transformer blocks; the others are convolutional.
            Defaults to `(-1,)`.
        context_dim: int or `None`. Width of the text embeddings that every
            transformer block attends to; `None` for a network without text.
            Defaults to `None`.
        {last_arguments}

    Example:
    ```python
    backbone = keras_simple_diffusion.models.ResidualUViTBackbone(
        image_shape=(32, 32, 3),
        channels=(16, 32, 64),
        blocks=(1, 1, 2),
        up_blocks=(2, 2),
    )
    prediction = backbone(
        {
            "noisy_images": keras.random.normal((4, 32, 32, 3)),
            "log_snr": ops.zeros(4),
        }
    )  # Shape (4, 32, 32, 3).
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
        blocks = check_integers("blocks", blocks, minimum=0)
        self.up_blocks = blocks[:-1]
        if up_blocks is not None:
            self.up_blocks = check_integers("up_blocks", up_blocks, minimum=0)
        if len(self.up_blocks) != len(blocks) - 1:
            raise InputError(
                f"`up_blocks` needs {len(blocks) - 1} entries, one for each "
                f"level but the lowest. Received: up_blocks={up_blocks}"
            )
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
        lowest = len(self.blocks) - 1

        def enter(level, x):
            if level in transformer_levels:
                return self.position_embedding(level, x)
            return x

        def apply_blocks(level, x, count, name):
            for i in range(count):
                if level in transformer_levels:
                    x = self.transformer_block(
                        level, x, conditions, f"{name}_{i}", modulation="norm"
                    )
                else:
                    x = self.residual_block(level, x, conditions, f"{name}_{i}")
            return x

        def apply_level(level, x):
            name = "middle" if level == lowest else f"down_{level}"
            x = apply_blocks(level, x, self.blocks[level], name)
            if level == lowest:
                return x
            below = enter(level + 1, self.downsample(level + 1, x))
            change = apply_level(level + 1, below) - below
            x = x + self.upsample(level + 1, change)
            return apply_blocks(level, x, self.up_blocks[level], f"up_{level}")

        return apply_level(0, enter(0, x))

    def get_config(self):
        return {
            **super().get_config(),
            "up_blocks": self.up_blocks,
            "transformer_levels": self.transformer_levels,
        }
