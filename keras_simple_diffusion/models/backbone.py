import keras
import keras_hub
from keras import layers

from keras_simple_diffusion.backend.compilation import ReleasesActivations
from keras_simple_diffusion.layers.conditioning import Conditioning
from keras_simple_diffusion.layers.fused_layers import Conv2D
from keras_simple_diffusion.layers.resampling import InverseWaveletTransform2D
from keras_simple_diffusion.layers.resampling import WaveletTransform2D
from keras_simple_diffusion.layers.residual_block import ResidualBlock
from keras_simple_diffusion.layers.transformer_block import TransformerBlock
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import resolve_preset

# What `rematerialize` may name; attention is that outside of a transformer.
_BLOCK_TYPES = ("residual", "attention", "transformer")

# How weights are split over the axes (data, model) of a device mesh. The
# first of two layers is split by its outputs and the second by its inputs, so
# that what is between them needs no exchange (Megatron).
_LAYOUTS = {
    ".*/(hidden|context|query|key_value|qkv|projection|dense)/kernel": (
        "data",
        "model",
    ),
    ".*/output/kernel": ("model", "data"),
    ".*/conv_in/kernel": (None, None, "data", "model"),
    ".*/conv_out/kernel": (None, None, "model", "data"),
}


class DiffusionBackbone(ReleasesActivations, keras_hub.models.Backbone):
    """Base class of the networks that predict the velocity of noisy images.

    A backbone is a functional model from a dictionary of inputs to one tensor
    shaped like the images. It knows nothing of schedules and losses. This
    class holds what the networks share: inputs, conditioning, first and last
    convolution. Subclasses define the levels in between.

    Call arguments:
        inputs: dict with the fixed names
            - `"noisy_images"`: float tensor of shape `(B, H, W, C)`,
            - `"log_snr"`: float tensor of shape `(B,)`,
            - `"labels"`: int tensor of shape `(B,)`, only if `num_classes` is
              set; `num_classes` is the null label,
            - `"context"` and `"context_mask"`: float tensor of shape
              `(B, L, context_dim)` and int tensor of shape `(B, L)`, zero for
              padding; only if `context_dim` is set,
            - `"portrait"`: int tensor of shape `(B,)`, 1 for a portrait image
              that lies on its side; only if `portrait_flag` is set.

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
        downsampling,
        downsampling_factor,
        context_dim=None,
        portrait_flag=False,
        rematerialize=(),
        dtype=None,
        **kwargs,
    ):
        # === Config ===
        self.image_shape = tuple(image_shape)
        self.channels = tuple(channels)
        self.blocks = tuple(blocks)
        self.num_heads = num_heads
        self.dropout = dropout
        if isinstance(dropout, (tuple, list)):
            self.dropout = tuple(dropout)
        self.dropout_max_size = dropout_max_size
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.downsampling = downsampling
        self.downsampling_factor = downsampling_factor
        self.context_dim = context_dim
        self.portrait_flag = portrait_flag
        self.rematerialize = tuple(rematerialize)
        self._check_config()
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        self._block_dtype = policy

        # === Functional Model ===
        inputs = {
            "noisy_images": keras.Input(self.image_shape, name="noisy_images"),
            "log_snr": keras.Input((), name="log_snr"),
        }
        if num_classes is not None:
            inputs["labels"] = keras.Input((), dtype="int32", name="labels")
        conditions = {}
        if context_dim is not None:
            conditions["context"] = keras.Input(
                (None, context_dim), name="context"
            )
            conditions["context_mask"] = keras.Input(
                (None,), dtype="int32", name="context_mask"
            )
            inputs.update(conditions)
        if portrait_flag:
            inputs["portrait"] = keras.Input((), dtype="int32", name="portrait")
        conditions["embedding"] = Conditioning(
            embedding_dim, num_classes, name="conditioning"
        )(**{k: v for k, v in inputs.items() if k != "noisy_images"})
        x = self._encode(inputs["noisy_images"])
        x = self.build_levels(x, conditions)
        x = layers.RMSNormalization(dtype=policy, name="output_norm")(x)
        x = layers.Activation("silu", dtype=policy, name="output_silu")(x)
        outputs = self._decode(x)
        super().__init__(inputs=inputs, outputs=outputs, dtype=policy, **kwargs)
        # Inputs stay float32: each layer casts to its own precision.
        self.autocast = False

    def build_levels(self, x, conditions):
        """The network between the first and the last convolution.

        Args:
            x: symbolic tensor of shape `(B, H, W, channels[0])`.
            conditions: dict of symbolic tensors, `"embedding"` of shape
                `(B, embedding_dim)` and, with `context_dim`, `"context"` and
                `"context_mask"`.

        Returns:
            A symbolic tensor shaped like `x`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    # The two ends work in float32: half precision would round away the noise
    # of nearly clean images, and banding would show in the output.

    def _encode(self, images):
        if self.downsampling == "conv":
            return self._end_conv(
                self.channels[0],
                "input_conv",
                kernel_size=self.downsampling_factor,
                strides=self.downsampling_factor,
            )(images)
        if self.downsampling == "dwt":
            images = WaveletTransform2D(self._wavelet_levels, name="dwt")(
                images
            )
        return self._end_conv(self.channels[0], "input_conv")(images)

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
        x = self._end_conv(channels, "output_conv", kernel_initializer="zeros")(
            x
        )
        if self.downsampling == "dwt":
            x = InverseWaveletTransform2D(self._wavelet_levels, name="idwt")(x)
        return x

    def _end_conv(self, channels, name, kernel_size=3, **kwargs):
        return Conv2D(
            channels,
            kernel_size,
            dtype="float32",
            name=name,
            **kwargs,
        )

    @property
    def _wavelet_levels(self):
        return self.downsampling_factor.bit_length() - 1

    def residual_block(self, level, x, conditions, name, skip=None):
        """Apply a new `ResidualBlock`."""
        block = ResidualBlock(
            dropout=self._dropout_at(level, x),
            rematerialize="residual" in self.rematerialize,
            dtype=self._block_dtype,
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
            dtype=self._block_dtype,
            name=name,
        )
        return block(x, skip=skip, **conditions)

    @staticmethod
    def level_indices(name, levels, num_levels):
        """Indices of levels as a set, with the negative ones resolved."""
        if any(not -num_levels <= level < num_levels for level in levels):
            raise InputError(
                f"`{name}` must index the {num_levels} levels of `channels`. "
                f"Received: {name}={tuple(levels)}"
            )
        return {level % num_levels for level in levels}

    def _dropout_at(self, level, x):
        if isinstance(self.dropout, tuple):
            return self.dropout[level]
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
        for name in (
            "channels",
            "num_heads",
            "num_classes",
            "embedding_dim",
            "context_dim",
        ):
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if value is None and name in ("num_classes", "context_dim"):
                continue
            if not numbers or not all(number >= 1 for number in numbers):
                raise InputError(
                    f"`{name}` must be positive. Received: {name}={value}"
                )
        if len(self.channels) != len(self.blocks) or min(self.blocks) < 0:
            raise InputError(
                "`channels` and `blocks` need one entry a level each. Received:"
                f" channels={self.channels}, blocks={self.blocks}"
            )
        if self.downsampling not in (None, "dwt", "conv"):
            raise InputError(
                "`downsampling` must be None, 'dwt' or 'conv'. Received: "
                f"downsampling={self.downsampling!r}"
            )
        if self.downsampling_factor not in (2, 4, 8):
            raise InputError(
                "`downsampling_factor` must be 2, 4 or 8. Received: "
                f"downsampling_factor={self.downsampling_factor}"
            )
        factor = self.total_downsampling
        height, width, _ = self.image_shape
        if height % factor or width % factor:
            fitting = [
                max(round(side / factor), 1) * factor
                for side in (height, width)
            ]
            raise InputError(
                f"{len(self.channels)} levels need images whose sides are "
                f"multiples of {factor}, such as {fitting[0]}x{fitting[1]}. "
                f"Received: image_shape={self.image_shape}"
            )
        unknown = set(self.rematerialize) - set(_BLOCK_TYPES)
        if unknown:
            raise InputError(
                f"`rematerialize` names types of blocks among {_BLOCK_TYPES}. "
                f"Received: rematerialize={self.rematerialize}"
            )
        rates = self.dropout
        if not isinstance(rates, tuple):
            rates = (rates,) * len(self.channels)
        if len(rates) != len(self.channels) or not all(
            0.0 <= rate < 1.0 for rate in rates
        ):
            raise InputError(
                "`dropout` must be in [0, 1), or a tuple of such rates, one a "
                f"level. Received: dropout={self.dropout}"
            )

    @property
    def total_downsampling(self):
        """Size of the images over that of the lowest level."""
        factor = 1 if self.downsampling is None else self.downsampling_factor
        return factor * 2 ** (len(self.channels) - 1)

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
            "downsampling": self.downsampling,
            "downsampling_factor": self.downsampling_factor,
            "rematerialize": self.rematerialize,
        }

    @classmethod
    def get_layout_map(
        cls,
        device_mesh,
        model_parallel_dim_name="model",
        data_parallel_dim_name="batch",
    ):
        """How to split the weights over devices, for tensor parallelism.

        Groups of devices along the model axis share the work on each image.
        Along the data axis each kernel is split as well, in its other
        dimension, to save memory. What no rule names is copied: it is little.

        Args:
            device_mesh: a `keras.distribution.DeviceMesh`.
            model_parallel_dim_name: string. Its axis along which devices
                share the work on an image. Defaults to `"model"`.
            data_parallel_dim_name: string. Its axis along which the batch is
                split. Defaults to `"batch"`.

        Returns:
            A `keras.distribution.LayoutMap`.

        Example:
        ```python
        mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
        distribution = keras.distribution.ModelParallel(
            layout_map=UViTBackbone.get_layout_map(mesh)
        )
        ```

        References:
            - [Shoeybi et al., 2019](https://arxiv.org/abs/1909.08053)
        """
        names = {
            "data": data_parallel_dim_name,
            "model": model_parallel_dim_name,
            None: None,
        }
        layout_map = keras.distribution.LayoutMap(device_mesh)
        for paths, axes in _LAYOUTS.items():
            layout_map[paths] = tuple(names[axis] for axis in axes)
        return layout_map

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
        # The base class fails at presets in mixed precision without it.
        kwargs["dtype"] = kwargs.get("dtype") or keras.config.dtype_policy()
        return super().from_preset(preset, load_weights, **kwargs)
