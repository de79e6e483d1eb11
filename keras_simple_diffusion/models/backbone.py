import collections
import re

import keras
import keras_hub

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend.compilation import ReleasesActivations
from keras_simple_diffusion.layers.conditioning import Conditioning
from keras_simple_diffusion.layers.protocol import check_layouts
from keras_simple_diffusion.layers.protocol import merge_layouts
from keras_simple_diffusion.models.preset import BuiltinPresets
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_arguments
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.errors import check_integers
from keras_simple_diffusion.utils.errors import check_number
from keras_simple_diffusion.utils.files import whole_folder
from keras_simple_diffusion.utils.image_sizes import is_same_area
from keras_simple_diffusion.utils.presets import NETWORK_WEIGHT_FILES

# The types of blocks that `rematerialize` may name.
_BLOCK_TYPES = ("residual", "attention", "transformer")


class DiffusionBackbone(
    ReleasesActivations,
    keras_internals.OwnTrainingSteps,
    keras_hub.models.Backbone,
):
    """Base class of all networks that denoise images.

    A backbone is a functional model from a dictionary of inputs to one tensor
    of the shape of the images, the prediction. It knows nothing of schedules
    and losses. This class defines the inputs and their embedding, presets, and
    the layout of the weights over devices.

    A subclass defines `build_network` and `get_config`, and names in
    `layer_types` the classes of its layers. Layers of its own follow
    `keras_simple_diffusion.layers.protocol`, so that the cost of the network
    can be counted and its weights be split over devices.

    Args:
        image_shape: tuple of ints, `(height, width, channels)`.
        num_classes: int or `None`. Number of classes, `None` for a network
            without classes. Defaults to `None`.
        embedding_dim: int. Width of the embedding of the conditions, an even
            number. Defaults to `1024`.
        context_dim: int or `None`. Width of the text embeddings, `None` for a
            network without text. Defaults to `None`.
        portrait_flag: bool. Whether an input tells portrait images, rotated to
            landscape, from landscape images. Defaults to `False`.
        guidance_range: tuple of two floats or `None`. Lowest and highest
            guidance scale of a network that receives the scale as an input, a
            distilled student, see `keras_simple_diffusion.distillation`.
            `None` for a network without this input. Defaults to `None`.
        rematerialize: tuple of strings. Types of blocks, among `"residual"`,
            `"attention"` and `"transformer"`, that are recomputed in the
            backward pass instead of storing their activations. Defaults to
            `()`.
        dtype: dtype policy of the blocks, `self.block_dtype`. The ends of a
            network and the conditioning are float32.
        **kwargs: base `keras_hub.models.Backbone` arguments.

    Call arguments:
        inputs: dict with the fixed names
            - `"noisy_images"`: float tensor of shape `(B, H, W, C)`,
            - `"log_snr"`: float tensor of shape `(B,)`,
            - `"labels"`: int tensor of shape `(B,)`, only with `num_classes`;
              `num_classes` is the null label,
            - `"context"` and `"context_mask"`: float tensor of shape
              `(B, L, context_dim)` and int tensor of shape `(B, L)`, zero for
              padding; only with `context_dim`,
            - `"portrait"`: int tensor of shape `(B,)`, 1 for a portrait image
              that was rotated to landscape; only with `portrait_flag`,
            - `"guidance_scale"`: float tensor of shape `(B,)`, only with
              `guidance_range`.

    Output shape:
        `(B, H, W, C)`, float32.

    Example:
    ```python
    @keras.saving.register_keras_serializable("my_package")
    class PlainBackbone(keras_simple_diffusion.models.DiffusionBackbone):
        layer_types = (
            *keras_simple_diffusion.models.DiffusionBackbone.layer_types,
            keras_simple_diffusion.layers.TransformerBlock,
        )

        def __init__(self, image_shape, num_blocks, **kwargs):
            self.num_blocks = num_blocks
            super().__init__(image_shape, **kwargs)

        def build_network(self, images, conditions):
            x = keras.layers.Conv2D(64, 4, strides=4, dtype="float32")(images)
            for i in range(self.num_blocks):
                x = keras_simple_diffusion.layers.TransformerBlock(
                    4, dtype=self.block_dtype, name=f"block_{i}"
                )(x, **conditions)
            return keras.layers.Conv2DTranspose(
                self.image_shape[-1], 4, strides=4, dtype="float32"
            )(x)

        def get_config(self):
            return {**super().get_config(), "num_blocks": self.num_blocks}
    ```
    """

    presets = BuiltinPresets()
    # Classes of layers with `weight_layouts` that the network may have.
    layer_types = (Conditioning,)
    # Whether `context_dim` may be given.
    supports_text = True
    # How often other weights have been loaded.
    num_loads = 0

    def __init__(
        self,
        image_shape,
        num_classes=None,
        embedding_dim=1024,
        context_dim=None,
        portrait_flag=False,
        rematerialize=(),
        guidance_range=None,
        dtype=None,
        **kwargs,
    ):
        # === Config ===
        # Keras ignores unknown arguments.
        check_arguments(kwargs, type(self))
        self.image_shape = _check_image_shape(image_shape)
        self.num_classes = check_integer(
            "num_classes", num_classes, optional=True
        )
        self.embedding_dim = check_integer("embedding_dim", embedding_dim)
        self.context_dim = check_integer(
            "context_dim", context_dim, optional=True
        )
        if context_dim is not None and not self.supports_text:
            raise InputError(
                f"{type(self).__name__} does not support text. Received: "
                f"context_dim={context_dim}. Use another network, such as "
                "UViTBackbone."
            )
        self.portrait_flag = bool(portrait_flag)
        self.rematerialize = _check_block_types(rematerialize)
        self.guidance_range = check_guidance_range(
            "guidance_range", guidance_range
        )
        self.block_dtype = keras.dtype_policies.get(
            dtype or keras.config.dtype_policy()
        )

        # === Functional model ===
        inputs = self._make_inputs()
        conditions = self.embed_conditions(
            {k: x for k, x in inputs.items() if k != "noisy_images"}
        )
        outputs = self.build_network(inputs["noisy_images"], conditions)
        super().__init__(
            inputs=inputs, outputs=outputs, dtype=self.block_dtype, **kwargs
        )
        # Inputs stay float32: each layer casts to its own precision.
        self.autocast = False
        if self._own_divisor() is not None:
            self.input_spec = [_of_any_size(spec) for spec in self.input_spec]
        if isinstance(
            keras.distribution.distribution(), keras.distribution.ModelParallel
        ):
            check_layouts(self.layers, self.layer_types)

    def _make_inputs(self):
        inputs = {
            "noisy_images": _float_input(self.image_shape, "noisy_images"),
            "log_snr": _float_input((), "log_snr"),
        }
        if self.num_classes is not None:
            inputs["labels"] = keras.Input((), dtype="int32", name="labels")
        if self.context_dim is not None:
            inputs["context"] = _float_input(
                (None, self.context_dim), "context"
            )
            inputs["context_mask"] = keras.Input(
                (None,), dtype="int32", name="context_mask"
            )
        if self.portrait_flag:
            inputs["portrait"] = keras.Input((), dtype="int32", name="portrait")
        if self.guidance_range is not None:
            inputs["guidance_scale"] = _float_input((), "guidance_scale")
        return inputs

    def embed_conditions(self, inputs):
        """Apply the layers of the conditions to symbolic tensors.

        The constructor calls it once, before `build_network`.

        Args:
            inputs: dict of symbolic tensors, all inputs but the images.

        Returns:
            A dict of symbolic tensors, the `conditions` of `build_network`.
        """
        embedding = Conditioning(
            self.embedding_dim, self.num_classes, name="conditioning"
        )(**inputs)
        return {"embedding": embedding, **text_of(inputs)}

    def build_network(self, images, conditions):
        """Apply the layers of the network to symbolic tensors.

        The constructor calls it once, when all arguments are set.

        Args:
            images: symbolic tensor of shape `(B, H, W, C)`, the noisy images.
            conditions: dict of symbolic tensors, see `embed_conditions`:
                `"embedding"` of shape `(B, embedding_dim)` and, with
                `context_dim`, `"context"` and `"context_mask"`.

        Returns:
            A float32 symbolic tensor of the shape of `images`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `build_network`."
        )

    # === Sizes of images ===

    @classmethod
    def side_divisor(cls, config):
        """Return the number that must divide the sides of images.

        A network whose layers compute with feature maps of any height and
        width takes images of other sizes than `image_shape` as well, of
        nearly the same area, see `check_image_size`. Its class overrides
        this method.

        Args:
            config: dict, the configuration of a network.

        Returns:
            An int; `None` if the network takes one size.
        """
        return None

    def _own_divisor(self):
        """Return that of this network; one that turns portraits has none."""
        return (
            None if self.portrait_flag else self.side_divisor(self.get_config())
        )

    def check_image_size(self, height, width):
        """Raise an `InputError` unless the network takes images of a size.

        Schedules of noise depend on the area of an image, so other sizes must
        have the same, within a quarter.

        Args:
            height: int.
            width: int.
        """
        size, known = (height, width), self.image_shape[:2]
        if size == known:
            return
        divisor = self._own_divisor()
        is_divided = divisor and not (height % divisor or width % divisor)
        if is_divided and is_same_area(size, known):
            return
        others = "only"
        if divisor:
            others = (
                f"or of another size with sides that are multiples of {divisor}"
                " and the same area within a quarter"
            )
        raise InputError(
            f"The network takes images of {known[0]} x {known[1]} {others}. "
            f"Received: {height} x {width}"
        )

    def call(self, inputs, training=None, mask=None):
        # Keras says what is wrong with other inputs.
        if isinstance(inputs, dict) and "noisy_images" in inputs:
            size = inputs["noisy_images"].shape[1:3]
            if len(size) == 2 and None not in size:
                self.check_image_size(*size)
        return super().call(inputs, training=training, mask=mask)

    def get_config(self):
        guidance = {"guidance_range": self.guidance_range}
        return {
            **super().get_config(),
            **(guidance if self.guidance_range else {}),
            "image_shape": self.image_shape,
            "num_classes": self.num_classes,
            "embedding_dim": self.embedding_dim,
            "context_dim": self.context_dim,
            "portrait_flag": self.portrait_flag,
            "rematerialize": self.rematerialize,
        }

    @classmethod
    def get_layout_map(
        cls,
        device_mesh,
        model_parallel_dim_name="model",
        data_parallel_dim_name="batch",
    ):
        """Return the layout of the weights over devices for tensor parallelism.

        Groups of devices along the model axis share the work on each image.
        Along the data axis the other dimension of each kernel is split as
        well, which saves memory. Small weights are copied to every device.

        Args:
            device_mesh: a `keras.distribution.DeviceMesh`.
            model_parallel_dim_name: string. The axis of the mesh along which
                devices share the work on an image. Defaults to `"model"`.
            data_parallel_dim_name: string. The axis of the mesh along which
                the batch is split. Defaults to `"batch"`.

        Returns:
            A `keras.distribution.LayoutMap`.

        Example:
        ```python
        mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
        distribution = keras.distribution.ModelParallel(
            layout_map=backbone.get_layout_map(mesh)
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
        endings = collections.defaultdict(list)
        for ending, axes in merge_layouts(cls.layer_types).items():
            if axes is not None:
                endings[axes].append(re.escape(ending))
        layout_map = keras.distribution.LayoutMap(device_mesh)
        for axes, found in endings.items():
            layout_map[f".*/({'|'.join(found)})"] = tuple(
                names[axis] for axis in axes
            )
        return layout_map

    # === Weights ===

    fit = keras_internals.keeps_values(keras.Model.fit)
    evaluate = keras_internals.keeps_values(keras.Model.evaluate)
    predict = keras_internals.keeps_values(keras.Model.predict)
    train_on_batch = keras_internals.keeps_values(keras.Model.train_on_batch)
    test_on_batch = keras_internals.keeps_values(keras.Model.test_on_batch)
    predict_on_batch = keras_internals.keeps_values(
        keras.Model.predict_on_batch
    )

    def load_weights(self, filepath, **kwargs):
        """Load weights, see `keras.Model`."""
        super().load_weights(filepath, **kwargs)
        self.num_loads += 1

    def set_weights(self, weights):
        """Set the weights, see `keras.Model`."""
        super().set_weights(weights)
        self.num_loads += 1

    def load_lora_weights(self, filepath):
        """Load the weights of `save_lora_weights`.

        Args:
            filepath: path of a file whose name ends in `.lora.h5`.
        """
        super().load_lora_weights(filepath)
        self.num_loads += 1

    def default_lora_layer_names(self):
        """Return the names of the layers that `enable_lora` adds LoRA to.

        Returns:
            A list of strings, the projections of attention.
        """
        return ["qkv", "query", "key_value"]

    def enable_lora(self, rank, target_layer_names=None):
        """Freeze the network but for low-rank changes of some kernels (LoRA).

        A compiled model must be compiled again before it is trained.

        Args:
            rank: int. Rank of the changes.
            target_layer_names: list of strings. Names of dense layers or
                convolutions. Defaults to `default_lora_layer_names()`.

        Raises:
            InputError: if there are no such layers, or if they have LoRA.

        References:
            - [Hu et al., 2021](https://arxiv.org/abs/2106.09685)
        """
        check_integer("rank", rank)
        names = target_layer_names or self.default_lora_layer_names()
        able = [
            layer
            for layer in keras_internals.layers_within(self)
            if hasattr(layer, "enable_lora")
        ]
        if any(layer.lora_enabled for layer in able):
            raise InputError(
                "The network has LoRA already, which can be enabled once."
            )
        if not any(layer.name in names for layer in able):
            raise InputError(
                f"No layer can have LoRA under the names {list(names)}. Pass "
                "`target_layer_names`, some of "
                f"{sorted({layer.name for layer in able})}."
            )
        super().enable_lora(rank, target_layer_names=names)

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
        return Preset.open(preset).load_backbone(load_weights, cls, **kwargs)

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Write configuration and weights of the network to a preset folder.

        Args:
            preset_dir: path of the folder.
            max_shard_size: see `keras_hub.models.Backbone.save_to_preset`.
        """
        with whole_folder(preset_dir, NETWORK_WEIGHT_FILES) as draft:
            super().save_to_preset(draft, max_shard_size=max_shard_size)


def text_of(inputs):
    """Return those of the inputs by name that are text."""
    return {
        name: x
        for name, x in inputs.items()
        if name in ("context", "context_mask")
    }


def check_backbone(backbone):
    """Raise an `InputError` unless a network is a `DiffusionBackbone`."""
    if not hasattr(backbone, "image_shape"):
        raise InputError(
            "`backbone` must be a DiffusionBackbone, such as UViTBackbone. "
            f"Received: a {type(backbone).__name__}. `keras.models.clone_model`"
            " loses the class; copy a network by "
            "`type(network).from_config(network.get_config())`."
        )


def check_guidance_range(name, value):
    """Check the lowest and the highest of some guidance scales.

    Args:
        name: string. Name of the argument, for the error message.
        value: the argument, or `None`.

    Returns:
        A tuple of two floats, or `None`.

    Raises:
        InputError: if the range is not two finite, increasing numbers.
    """
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InputError(
            f"`{name}` must be two numbers, the lowest and the highest "
            f"guidance scale. Received: {name}={value!r}"
        )
    low = check_number(name, value[0])
    return float(low), float(check_number(name, value[1], above=low))


def blocks_within(model):
    """List the layers of the networks of a model.

    Args:
        model: a `keras.Model` with `DiffusionBackbone`s at any depth.

    Returns:
        A list of `keras.layers.Layer`s.
    """
    return [
        block
        for layer in keras_internals.layers_within(model)
        if isinstance(layer, DiffusionBackbone)
        for block in layer.layers
    ]


def _of_any_size(spec):
    """Let the height and width of images differ from those of a spec."""
    if spec.name != "noisy_images":
        return spec
    return keras.InputSpec(
        shape=(None, None, None, spec.shape[-1]), name=spec.name
    )


def _float_input(shape, name):
    return keras.Input(shape, dtype="float32", name=name)


def _check_image_shape(image_shape):
    sides = check_integers("image_shape", image_shape)
    if len(sides) != 3:
        raise InputError(
            "`image_shape` must be (height, width, channels). Received: "
            f"image_shape={image_shape}"
        )
    return sides


def _check_block_types(rematerialize):
    valid = isinstance(rematerialize, (tuple, list)) and all(
        name in _BLOCK_TYPES for name in rematerialize
    )
    if not valid:
        raise InputError(
            "`rematerialize` must be a tuple of types of blocks among "
            f"{_BLOCK_TYPES}. Received: rematerialize={rematerialize!r}"
        )
    return tuple(rematerialize)
