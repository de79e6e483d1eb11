"""Base classes that become subclasses of keras_hub's when it is imported.

keras_hub takes seconds to import, as it imports TensorFlow on every backend.
Training and drawing need nothing of it, so the classes below do what
`keras_hub.models.Backbone` and `keras_hub.models.Task` do. As soon as anyone
imports keras_hub, its classes are put between them and `keras.Model`; then
`isinstance`, and `from_preset` of keras_hub's classes, know ours. Keras changes
the bases of functional models in the same way.
"""

import datetime
import importlib.metadata
import json
import pathlib

import keras

from keras_simple_diffusion.backend.keras_internals import layers_within
from keras_simple_diffusion.backend.keras_internals import size_in_bytes

_NETWORK_WEIGHTS = "model.weights.h5"
_SHARDED_WEIGHTS = "model.weights.json"


class _PropertiesOfModels:
    """Mixin of models whose parts are properties, such as `backbone`.

    PyTorch's modules store a module under the name of a property without
    calling its setter, and refuse layers before they are initialized.
    """

    def __setattr__(self, name, value):
        is_property = isinstance(getattr(type(self), name, None), property)
        is_early = "_initialized" not in self.__dict__
        if keras.config.backend() == "torch" and (is_property or is_early):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


class HubBackbone(_PropertiesOfModels, keras.Model):
    """Base class of networks, see `keras_hub.models.Backbone`.

    A subclass defines `from_preset`, and `presets`.

    Args:
        *args: arguments of a functional `keras.Model`.
        dtype: dtype policy. Defaults to Keras's.
        **kwargs: further arguments of `keras.Model`.
    """

    def __init__(self, *args, dtype=None, **kwargs):
        super().__init__(*args, **kwargs)
        self._initialized = True
        if dtype is not None:
            self.dtype_policy = keras.dtype_policies.get(dtype)

    def get_config(self):
        policy = self.dtype_policy
        if not isinstance(policy, keras.dtype_policies.DTypePolicyMap):
            # Layers that are quantized keep policies of their own.
            quantized = keras.dtype_policies.DTypePolicyMap()
            for layer in layers_within(self):
                if layer.quantization_mode is not None:
                    quantized[layer.path] = layer.dtype_policy
            policy = quantized if len(quantized) else policy
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(policy),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.dtype_policies.get(config["dtype"])
        return cls(**config)

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Write `config.json`, `metadata.json` and the weights.

        Args:
            preset_dir: path of an existing folder.
            max_shard_size: float or `None`. Size in GB above which the weights
                are split over several files. Defaults to `10`.
        """
        folder = pathlib.Path(preset_dir)
        _write_config(self, folder / "config.json")
        now = datetime.datetime.now()
        metadata = {
            "keras_version": keras.version(),
            "keras_hub_version": importlib.metadata.version("keras-hub"),
            "parameter_count": self.count_params(),
            "date_saved": now.strftime("%Y-%m-%d@%H:%M:%S"),
            "tasks": [],
        }
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=4))
        size = size_in_bytes(self.variables) / 1024**3
        if max_shard_size is not None and size > max_shard_size:
            self.save_weights(
                folder / _SHARDED_WEIGHTS, max_shard_size=max_shard_size
            )
        else:
            self.save_weights(folder / _NETWORK_WEIGHTS)

    # Rare, and left to keras_hub: its import puts its class above this one.

    def enable_lora(self, rank, target_layer_names=None):
        """Add LoRA, see `keras_hub.models.Backbone.enable_lora`."""
        import keras_hub  # noqa: F401

        super().enable_lora(rank, target_layer_names)

    def save_lora_weights(self, filepath):
        """Save LoRA, see `keras_hub.models.Backbone.save_lora_weights`."""
        import keras_hub  # noqa: F401

        super().save_lora_weights(filepath)

    def load_lora_weights(self, filepath):
        """Load LoRA, see `keras_hub.models.Backbone.load_lora_weights`."""
        import keras_hub  # noqa: F401

        super().load_lora_weights(filepath)


class HubTask(_PropertiesOfModels, keras.Model):
    """Base class of models that contain a network, see `keras_hub.models.Task`.

    A subclass defines `get_config`, `from_config`, `from_preset` and `presets`,
    and sets `backbone`.

    Args:
        **kwargs: arguments of `keras.Model`.
    """

    preprocessor = None  # Texts are tokenized outside of the layers.

    def __init__(self, **kwargs):
        # Not keras_hub's, which compiles.
        keras.Model.__init__(self, **kwargs)
        self._initialized = True
        self._backbone = None

    @property
    def backbone(self):
        """The network, a `keras_hub.models.Backbone`."""
        return self._backbone

    @backbone.setter
    def backbone(self, value):
        self._backbone = value

    def build(self, input_shape=None):
        self.built = True

    def has_task_weights(self):
        """Return `True` if there are weights besides those of the network."""
        network = {id(weight) for weight in self.backbone.weights}
        return any(id(weight) not in network for weight in self.weights)

    def save_task_weights(self, filepath):
        """Save the weights that are not those of the network.

        Args:
            filepath: path of a file whose name ends in `.weights.h5`.
        """
        skipped = [self.backbone, *layers_within(self.backbone)]
        keras.saving.save_weights(self, filepath, objects_to_skip=skipped)

    def load_task_weights(self, filepath):
        """Load the weights of `save_task_weights`.

        Args:
            filepath: path of a file whose name ends in `.weights.h5`.
        """
        skipped = [self.backbone, *layers_within(self.backbone)]
        keras.saving.load_weights(self, filepath, objects_to_skip=skipped)

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Write `task.json` and weights, and the preset of the network.

        Args:
            preset_dir: path of an existing folder.
            max_shard_size: see `HubBackbone.save_to_preset`.
        """
        folder = pathlib.Path(preset_dir)
        _write_config(self, folder / "task.json")
        if self.has_task_weights():
            self.save_task_weights(folder / "task.weights.h5")
        self.backbone.save_to_preset(preset_dir, max_shard_size=max_shard_size)


def join_keras_hub():
    """Make the classes above subclasses of keras_hub's.

    Models that exist already become instances of them as well.
    """
    from keras_hub import models

    pairs = ((HubBackbone, models.Backbone), (HubTask, models.Task))
    for ours, theirs in pairs:
        if not issubclass(ours, theirs):
            *mixins, base = ours.__bases__  # `Model`, or its `Functional`.
            ours.__bases__ = (*mixins, theirs, base)


def _write_config(model, path):
    config = _architecture(keras.saving.serialize_keras_object(model))
    path.write_text(json.dumps(config, indent=4))


def _architecture(config):
    """Copy a configuration without how its parts were compiled or built."""
    if not isinstance(config, dict):
        return config
    skipped = ("compile_config", "build_config")
    return {k: _architecture(v) for k, v in config.items() if k not in skipped}
