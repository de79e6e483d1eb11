import keras
import keras_hub
from keras import layers

from keras_simple_diffusion.layers.conditioning import Conditioning
from keras_simple_diffusion.layers.residual_block import ResidualBlock
from keras_simple_diffusion.layers.transformer_block import TransformerBlock
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import resolve_preset


class DiffusionBackbone(keras_hub.models.Backbone):
    """Base class of the networks that predict the velocity of noisy pictures.

    A backbone is a functional model from a dictionary of inputs to one tensor
    shaped like the pictures. It knows nothing of schedules and losses. This
    class holds what the networks share: inputs, conditioning, first and last
    convolution. Subclasses define the levels in between.

    Call arguments:
        inputs: dict with the fixed names
            - `"noisy_images"`: float tensor of shape `(B, H, W, C)`,
            - `"log_snr"`: float tensor of shape `(B,)`,
            - `"labels"`: int tensor of shape `(B,)`, only if `num_classes` is
              set; `num_classes` is the null label.

    Output shape:
        `(B, H, W, C)`, float32.
    """

    def __init__(
        self,
        image_shape,
        channels,
        blocks,
        num_heads,
        dropout,
        dropout_max_size,
        num_classes,
        embedding_dim,
        dtype=None,
        **kwargs,
    ):
        # === Config ===
        self.image_shape = tuple(image_shape)
        self.channels = tuple(channels)
        self.blocks = tuple(blocks)
        self.num_heads = num_heads
        self.dropout = dropout
        self.dropout_max_size = dropout_max_size
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self._check_config()
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        self._block_dtype = policy

        # === Functional Model ===
        inputs = {
            "noisy_images": keras.Input(self.image_shape, name="noisy_images"),
            "log_snr": keras.Input((), name="log_snr"),
        }
        conditions = [inputs["log_snr"]]
        if num_classes is not None:
            inputs["labels"] = keras.Input((), dtype="int32", name="labels")
            conditions.append(inputs["labels"])
        embedding = Conditioning(
            embedding_dim, num_classes, name="conditioning"
        )(*conditions)
        # The two ends work in float32: half precision would round away the
        # noise of nearly clean pictures, and banding would show in the output.
        x = layers.Conv2D(
            self.channels[0],
            3,
            padding="same",
            data_format="channels_last",
            dtype="float32",
            name="input_conv",
        )(inputs["noisy_images"])
        x = self.build_levels(x, embedding)
        x = layers.RMSNormalization(dtype=policy, name="output_norm")(x)
        x = layers.Activation("silu", dtype=policy, name="output_silu")(x)
        outputs = layers.Conv2D(
            self.image_shape[-1],
            3,
            padding="same",
            data_format="channels_last",
            kernel_initializer="zeros",
            dtype="float32",
            name="output_conv",
        )(x)
        super().__init__(inputs=inputs, outputs=outputs, dtype=policy, **kwargs)
        # Inputs stay float32: each layer casts to its own precision.
        self.autocast = False

    def build_levels(self, x, embedding):
        """The network between the first and the last convolution.

        Args:
            x: symbolic tensor of shape `(B, H, W, channels[0])`.
            embedding: symbolic tensor of shape `(B, embedding_dim)`.

        Returns:
            A symbolic tensor shaped like `x`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def residual_block(self, x, embedding, name, skip=None):
        """Apply a new `ResidualBlock`."""
        block = ResidualBlock(
            dropout=self._dropout_at(x), dtype=self._block_dtype, name=name
        )
        return block(x, embedding, skip=skip)

    def transformer_block(self, x, embedding, name):
        """Apply a new `TransformerBlock`."""
        block = TransformerBlock(
            self.num_heads,
            dropout=self._dropout_at(x),
            dtype=self._block_dtype,
            name=name,
        )
        return block(x, embedding)

    def _dropout_at(self, x):
        size = min(x.shape[1:3])
        return self.dropout if size <= self.dropout_max_size else 0.0

    def _check_config(self):
        if len(self.image_shape) != 3 or not all(
            isinstance(size, int) and size > 0 for size in self.image_shape
        ):
            raise InputError(
                "`image_shape` must be (height, width, channels), all positive "
                f"integers. Received: image_shape={self.image_shape}"
            )
        if len(self.channels) != len(self.blocks):
            raise InputError(
                "`channels` and `blocks` need one entry a level each. Received:"
                f" channels={self.channels}, blocks={self.blocks}"
            )
        factor = self.total_downsampling
        height, width, _ = self.image_shape
        if height % factor or width % factor:
            fitting = [
                max(round(side / factor), 1) * factor
                for side in (height, width)
            ]
            raise InputError(
                f"{len(self.channels)} levels need pictures whose sides are "
                f"multiples of {factor}, such as {fitting[0]}x{fitting[1]}. "
                f"Received: image_shape={self.image_shape}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(
                f"`dropout` must be in [0, 1). Received: dropout={self.dropout}"
            )

    @property
    def total_downsampling(self):
        """Size of the pictures over that of the lowest level."""
        return 2 ** (len(self.channels) - 1)

    def get_config(self):
        return {
            **super().get_config(),
            "image_shape": self.image_shape,
            "channels": self.channels,
            "blocks": self.blocks,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "dropout_max_size": self.dropout_max_size,
            "num_classes": self.num_classes,
            "embedding_dim": self.embedding_dim,
        }

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Load a backbone from a preset.

        Args:
            preset: string. The name of a built-in preset, a folder written by
                `save_to_preset`, or an `hf://` or `kaggle://` handle.
            load_weights: bool. Whether to load weights, or start from random
                ones. Defaults to `True`.
            **kwargs: overrides of the preset's configuration.

        Returns:
            A backbone of the preset's class.
        """
        preset = resolve_preset(preset, load_weights)
        return super().from_preset(preset, load_weights, **kwargs)
