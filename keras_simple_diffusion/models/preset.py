"""Presets: configuration and weights of a model, opened once."""

import contextlib
import copy
import dataclasses
import pathlib

import keras
import keras_hub

from keras_simple_diffusion.backend.keras_internals import find_preset_file
from keras_simple_diffusion.utils import presets as files
from keras_simple_diffusion.utils.errors import InputError

_TASK_WEIGHTS = "task.weights.h5"
# Default task of a network, by whether the network takes text. Names instead
# of classes, so that networks do not import the tasks that train them.
_TASKS = {
    False: "keras_simple_diffusion>DiffusionModel",
    True: "keras_simple_diffusion>TextToImage",
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A preset: configuration of a network and its task, recipe and weights.

    `Preset.open` reads each of its JSON files once; everything that needs to
    know something about a preset takes this object.

    Args:
        name: string. The name that the preset was opened by.
        location: string. The folder, or the `hf://` or `kaggle://` handle,
            that holds its files.
        backbone_class: class of the network.
        backbone_config: dict. Arguments of the network.
        task_class: class of the model, `DiffusionModel` or `TextToImage`.
        task_config: dict. Arguments of the model, some of them serialized;
            empty for a preset of a network alone.
        recipe: dict. Fields of a `keras_simple_diffusion.training.Recipe`
            that differ from its defaults.
        metadata: dict. Description, number of parameters, versions.

    Example:
    ```python
    preset = keras_simple_diffusion.models.Preset.open("uvit_digits_16")
    preset.backbone_config["image_shape"]  # [16, 16, 1]
    model = preset.load(load_weights=False)
    ```
    """

    name: str
    location: str
    backbone_class: type
    backbone_config: dict = dataclasses.field(repr=False)
    task_class: type
    task_config: dict = dataclasses.field(repr=False)
    recipe: dict = dataclasses.field(repr=False)
    metadata: dict = dataclasses.field(repr=False)

    @classmethod
    def open(cls, name):
        """Read the configuration of a preset.

        Args:
            name: string or path. A built-in name, a preset folder, the folder
                of a run, or an `hf://` or `kaggle://` handle. A `Preset` is
                returned unchanged.

        Returns:
            A `Preset`.

        Raises:
            InputError: if there is no such preset, or it is damaged, or its
                classes are unknown.
        """
        if isinstance(name, Preset):
            return name
        location = files.locate_preset(name)

        def read(file):
            path = _find(location, file)
            return {} if path is None else files.read_json(path)

        backbone_class, backbone_config = _resolve(
            read("config.json"), f"{name}/config.json"
        )
        shape = backbone_config.get("image_shape")
        if not isinstance(shape, (list, tuple)) or len(shape) != 3:
            raise InputError(
                f"'{name}' holds a {backbone_class.__name__} without "
                "`image_shape`, which is no network of images."
            )
        default = _TASKS[_takes_text(backbone_config)]
        task_class, task_config = _resolve(
            read("task.json") or {"registered_name": default, "config": {}},
            f"{name}/task.json",
        )
        # The network of task.json is that of config.json once more.
        task_config.pop("backbone", None)
        return cls(
            str(name),
            location,
            backbone_class,
            backbone_config,
            task_class,
            task_config,
            read("recipe.json"),
            read("metadata.json"),
        )

    @property
    def folder(self):
        """The local folder as a `pathlib.Path`, `None` if it is remote."""
        return None if "://" in self.location else pathlib.Path(self.location)

    @property
    def takes_text(self):
        """`True` if the model draws images of texts."""
        return _takes_text(self.backbone_config)

    @property
    def has_weights(self):
        """`True` if the preset holds weights, not a configuration alone.

        A remote preset is assumed to have weights; checking would download
        them.
        """
        return self.folder is None or files.has_weights(self.folder)

    def part(self, name):
        """Build one part of the model from its configuration.

        Args:
            name: string, such as `"schedule"` or `"text_encoder"`.

        Returns:
            The schedule, loss, sampler or text encoder; `None` if the preset
            leaves it to the default.
        """
        config = copy.deepcopy(self.task_config.get(name))
        if config is None:
            return None
        with self._as_input_errors():
            return keras.saving.deserialize_keras_object(config)

    def load(self, load_weights=True, task_class=None, **overrides):
        """Build the model, with its weights.

        Args:
            load_weights: bool. `False` leaves the weights as initialized.
                Defaults to `True`.
            task_class: class of the model, the preset's or a subclass of it.
                Defaults to the preset's.
            **overrides: arguments of the model that replace the preset's,
                such as `guidance_scale`; `dtype` and `image_shape` are those
                of the network, and cannot be combined with `backbone`.

        Returns:
            A `DiffusionModel` or `TextToImage`.

        Raises:
            InputError: if the weights are missing or damaged, the
                configuration does not fit the class, or overrides contradict
                each other.

        Example:
        >>> preset = keras_simple_diffusion.models.Preset.open("emoji")
        >>> model = preset.load(guidance_scale=2.0)
        """
        self._check_weights(load_weights)
        requested = task_class or keras.saving.get_registered_object(
            _TASKS[self.takes_text]
        )
        task_class = self.task_class
        if not issubclass(task_class, requested):
            # A subclass accepts its base's configuration; without a task
            # configuration any class is accepted.
            if self.task_config and not issubclass(requested, task_class):
                raise self._is_another(task_class, requested)
            task_class = requested
        network = {
            name: overrides.pop(name)
            for name in ("dtype", "image_shape")
            if name in overrides
        }
        if "backbone" not in overrides:
            overrides["backbone"] = self.load_backbone(False, **network)
        elif network:
            raise InputError(
                f"{' and '.join(f'`{name}`' for name in network)} cannot be "
                "changed in a `backbone` that is given. Pass them to the "
                "backbone instead."
            )
        config = copy.deepcopy(self.task_config)
        with self._as_input_errors():
            task = task_class.from_config({**config, **overrides})
        if load_weights:
            path = _find(self.location, _TASK_WEIGHTS)
            # A network alone leaves the rest of the model to the caller.
            if path is None and self.task_config and task.has_task_weights():
                raise InputError(
                    f"The preset '{self.name}' holds no {_TASK_WEIGHTS}, the "
                    "weights of its text encoder. Restore it from a copy, or "
                    "pass `load_weights=False`."
                )
            with self._as_input_errors():
                if path is not None:
                    task.load_task_weights(path)
                task.backbone.load_weights(self._find_weights())
        return task

    def load_backbone(
        self, load_weights=True, backbone_class=None, **overrides
    ):
        """Build the network, with its weights.

        Args:
            load_weights: bool. `False` leaves the weights as initialized.
                Defaults to `True`.
            backbone_class: class of the network, the preset's or a base class
                of it. Defaults to the preset's.
            **overrides: arguments of the network that replace the preset's.
                `dtype` defaults to Keras's global policy, not the preset's.

        Returns:
            A `keras_hub.models.Backbone`.

        Raises:
            InputError: see `load`.
        """
        self._check_weights(load_weights)
        requested = backbone_class or keras_hub.models.Backbone
        backbone_class = self.backbone_class
        if not issubclass(backbone_class, requested):
            raise self._is_another(backbone_class, requested)
        # Any policy can run the weights, whichever they were trained with.
        overrides["dtype"] = (
            overrides.get("dtype") or keras.config.dtype_policy()
        )
        config = copy.deepcopy(self.backbone_config)
        with self._as_input_errors():
            backbone = backbone_class.from_config({**config, **overrides})
            if load_weights:
                backbone.load_weights(self._find_weights())
        return backbone

    def _is_another(self, found, requested):
        return InputError(
            f"'{self.name}' is a preset of a {found.__name__}, not of a "
            f"{requested.__name__}. Use `{found.__name__}.from_preset`, or "
            f"`Preset.open({self.name!r}).load()`."
        )

    def _check_weights(self, load_weights):
        if load_weights and not self.has_weights:
            raise InputError(
                f"The preset '{self.name}' is a configuration without weights. "
                "Pass `load_weights=False` to start from random ones, or train "
                f"it: keras-simple-diffusion train --preset {self.name}"
            )

    def _find_weights(self):
        """Return the local path of the network's weights, or of their index."""
        path = _find(self.location, files.WEIGHTS)
        if path is not None:
            return path
        index = _find(self.location, files.SHARDED_WEIGHTS)
        if index is None:
            raise InputError(f"The preset '{self.name}' holds no weights.")
        for shards in files.read_json(index)["weight_map"].values():
            for shard in [shards] if isinstance(shards, str) else shards:
                _find(self.location, shard)  # Brings it beside the index.
        return index

    @contextlib.contextmanager
    def _as_input_errors(self):
        """Turn errors of Keras about the preset's files into one line."""
        try:
            yield
        except InputError:
            raise
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as e:
            message = str(e).split("Exception encountered: ")[-1].strip()
            reason = message.partition("\n")[0][:300]
            raise InputError(
                f"The preset '{self.name}' cannot be loaded: "
                f"{type(e).__name__}: {reason}"
            ) from e


class BuiltinPresets:
    """Class attribute `presets`: metadata of the built-in presets of a class.

    A dict from names to metadata, as keras_hub's `cls.presets`. Instances do
    not have it: Keras reads every attribute of a model that it saves.
    """

    def __get__(self, instance, owner):
        if instance is not None:
            raise AttributeError("`presets` is an attribute of the class.")
        presets = map(Preset.open, files.builtin_presets())
        return {
            preset.name: preset.metadata
            for preset in presets
            if issubclass(preset.backbone_class, owner)
            or issubclass(preset.task_class, owner)
        }


def _takes_text(backbone_config):
    return backbone_config.get("context_dim") is not None


def _find(location, name):
    """Return the local path of a preset's file, `None` if it has none."""
    if "://" not in location:
        path = pathlib.Path(location) / name
        return path if path.exists() else None
    try:
        return find_preset_file(location, name)
    except (ImportError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{location}' cannot be read: {reason[:300]}"
        ) from error


def _resolve(content, path):
    """Find the class and the arguments that a JSON file describes."""
    name, config = content.get("registered_name"), content.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        raise InputError(
            f"'{path}' describes no Keras object: it needs `registered_name` "
            "and `config`, as `save_to_preset` writes them."
        )
    found = keras.saving.get_registered_object(name)
    if not isinstance(found, type):
        raise InputError(
            f"'{path}' is of the class '{name}', which Keras does not know. "
            "Import the module that registers it first."
        )
    return found, dict(config)
