import keras
from keras import layers

from keras_simple_diffusion.layers.class_tokens import ClassTokens
from keras_simple_diffusion.layers.flow_conditioning import FlowConditioning
from keras_simple_diffusion.layers.flow_conditioning import FlowState
from keras_simple_diffusion.layers.patches import JoinPatches
from keras_simple_diffusion.layers.pixel_transformer_block import ModulatedNorm
from keras_simple_diffusion.layers.pixel_transformer_block import (
    PixelTransformerBlock,
)
from keras_simple_diffusion.layers.positions import RotaryPositions2D
from keras_simple_diffusion.layers.positions import SinusoidalPositions2D
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.models.backbone import text_of
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.errors import check_number
from keras_simple_diffusion.utils.errors import check_rate


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class PixelTransformerBackbone(DiffusionBackbone):
    """Plain transformer on patches of pixels (JiT), without levels.

    Patches are projected to a few dimensions and from there to tokens, which
    have fixed positions. From some block on, tokens of the class precede those
    of the patches. The network was designed to predict clean images
    (`prediction_type="x"`), because its patches have more pixels than its
    tokens have channels. It receives noisy images as points on the straight
    path of rectified flow.

    Args:
        image_shape: tuple of ints, `(height, width, channels)`, multiples of
            the patch size.
        patch_size: int. Height and width of a patch in pixels.
        width: int. Channels of a token, and width of the embedding of the
            conditions; a multiple of 4.
        depth: int. Number of transformer blocks.
        num_heads: int. Number of attention heads. Each has
            `width / num_heads` channels, a multiple of 4.
        bottleneck_dim: int. Number of dimensions to which a patch is projected
            first. Defaults to `128`.
        num_class_tokens: int. Number of tokens of the class, if there are
            classes; 0 for none. Defaults to `32`.
        class_token_block: int. Index of the first block with tokens of the
            class, below `depth` if there are any. Defaults to `4`.
        dropout: float. Dropout rate of the middle half of the blocks. Defaults
            to `0.0`.
        noise_scale: float. Standard deviation of the noise at the end of the
            straight path; the paper's is the image size divided by 256.
            Defaults to `1.0`.
        num_classes: int or `None`. Number of classes, `None` for a network
            without classes. Defaults to `None`.
        context_dim: int or `None`. Width of the text embeddings that every
            block attends to; `None` for a network without text. Defaults to
            `None`.
        portrait_flag: bool. Whether an input tells portrait images, rotated to
            landscape, from landscape images. Defaults to `False`.
        rematerialize: tuple of strings, `("transformer",)` to recompute the
            blocks in the backward pass instead of storing their activations.
            Defaults to `()`.
        dtype: dtype policy of the blocks. The first and last layers and the
            conditioning are float32.
        **kwargs: base `keras_hub.models.Backbone` arguments.

    Example:
    ```python
    backbone = keras_simple_diffusion.models.PixelTransformerBackbone(
        image_shape=(32, 48, 3), patch_size=8, width=32, depth=2, num_heads=2
    )
    prediction = backbone(
        {
            "noisy_images": keras.random.normal((4, 32, 48, 3)),
            "log_snr": ops.zeros(4),
        }
    )  # Shape (4, 32, 48, 3).
    ```

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720)
    """

    layer_types = (
        FlowConditioning,
        ClassTokens,
        ModulatedNorm,
        PixelTransformerBlock,
    )

    def __init__(
        self,
        image_shape,
        patch_size,
        width,
        depth,
        num_heads,
        bottleneck_dim=128,
        num_class_tokens=32,
        class_token_block=4,
        dropout=0.0,
        noise_scale=1.0,
        **kwargs,
    ):
        self.patch_size = check_integer("patch_size", patch_size)
        self.width = check_integer("width", width)
        self.depth = check_integer("depth", depth)
        self.num_heads = check_integer("num_heads", num_heads)
        if self.width % (4 * self.num_heads):
            raise InputError(
                "`width` must be a multiple of 4 times `num_heads`. Received: "
                f"width={width}, num_heads={num_heads}"
            )
        self.bottleneck_dim = check_integer("bottleneck_dim", bottleneck_dim)
        self.num_class_tokens = check_integer(
            "num_class_tokens", num_class_tokens, minimum=0
        )
        self.class_token_block = check_integer(
            "class_token_block", class_token_block, minimum=0
        )
        self.dropout = check_rate("dropout", dropout)
        self.noise_scale = check_number("noise_scale", noise_scale, above=0)
        super().__init__(image_shape, embedding_dim=self.width, **kwargs)

    def embed_conditions(self, inputs):
        conditioning = FlowConditioning(
            self.width,
            self.num_classes,
            self.noise_scale,
            name="conditioning",
        )
        conditions = {
            "embedding": conditioning(**inputs),
            "log_snr": inputs["log_snr"],
            **text_of(inputs),
        }
        if self.num_classes is not None and self.num_class_tokens:
            vectors = conditioning.label_embedding
            conditions["label"] = vectors(inputs["labels"])
        return conditions

    def build_network(self, images, conditions):
        log_snr = conditions.pop("log_snr")
        label = conditions.pop("label", None)
        self._check_sides()
        if label is not None and self.class_token_block >= self.depth:
            raise InputError(
                "Tokens of the class need a block: pass a `class_token_block` "
                "below `depth`, or num_class_tokens=0 for none. Received: "
                f"class_token_block={self.class_token_block}, "
                f"depth={self.depth}"
            )

        # Patches
        x = FlowState(self.noise_scale, name="flow_state")(images, log_snr)
        x = layers.Conv2D(
            self.bottleneck_dim,
            self.patch_size,
            strides=self.patch_size,
            use_bias=False,
            data_format="channels_last",
            dtype="float32",
            name="patch_conv",
        )(x)
        x = layers.Dense(self.width, dtype="float32", name="patch_dense")(x)
        patches = SinusoidalPositions2D(dtype="float32", name="positions")(x)
        x = layers.Reshape((-1, self.width), dtype="float32")(patches)

        # Transformer
        rotation = self._rotary_positions(patches, 0, "rotation")
        num_before = 0
        for i in range(self.depth):
            if label is not None and i == self.class_token_block:
                x = ClassTokens(
                    self.num_class_tokens,
                    dtype=self.block_dtype,
                    name="class_tokens",
                )(x, label)
                num_before = self.num_class_tokens
                rotation = self._rotary_positions(
                    patches, num_before, "rotation_with_class"
                )
            in_middle = self.depth // 4 <= i < self.depth // 4 * 3
            x = PixelTransformerBlock(
                self.num_heads,
                dropout=self.dropout if in_middle else 0.0,
                rematerialize="transformer" in self.rematerialize,
                dtype=self.block_dtype,
                name=f"transformer_{i}",
            )(x, rotation=rotation, **conditions)

        # Pixels
        x = ModulatedNorm(dtype="float32", name="output_norm")(
            x[:, num_before:], conditions["embedding"]
        )
        x = layers.Dense(
            self.patch_size**2 * self.image_shape[-1],
            kernel_initializer="zeros",
            dtype="float32",
            name="output_dense",
        )(x)
        return JoinPatches(self.patch_size, dtype="float32", name="pixels")(
            x, patches
        )

    def _rotary_positions(self, patches, num_before, name):
        head_dim = self.width // self.num_heads
        return RotaryPositions2D(head_dim, num_before, name=name)(patches)

    @classmethod
    def side_divisor(cls, config):
        return config["patch_size"]

    def _check_sides(self):
        size, sides = self.patch_size, self.image_shape[:2]
        if any(side % size for side in sides):
            fitting = [max(round(side / size), 1) * size for side in sides]
            raise InputError(
                "The height and width of `image_shape` must be multiples of "
                f"`patch_size`, {size}, such as {fitting[0]}x{fitting[1]}. "
                f"Received: image_shape={self.image_shape}"
            )

    def get_config(self):
        config = super().get_config()
        del config["embedding_dim"]  # It is the width.
        return {
            **config,
            "patch_size": self.patch_size,
            "width": self.width,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "bottleneck_dim": self.bottleneck_dim,
            "num_class_tokens": self.num_class_tokens,
            "class_token_block": self.class_token_block,
            "dropout": self.dropout,
            "noise_scale": self.noise_scale,
        }
