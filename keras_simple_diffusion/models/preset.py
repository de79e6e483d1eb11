"""Presets: configuration and weights of a model, opened once."""

import contextlib
import copy
import dataclasses
import json
import pathlib

import keras
import keras_hub
import numpy as np

from keras_simple_diffusion.backend.keras_internals import find_preset_file
from keras_simple_diffusion.backend.keras_internals import (
    without_initialization,
)
from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.text.pretrained_text_encoder import (
    PretrainedTextEncoder,
)
from keras_simple_diffusion.utils import presets as files
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_arguments
from keras_simple_diffusion.utils.errors import names_of_arguments

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
    def is_builtin(self):
        """`True` if the preset is part of this package."""
        return self.folder is not None and files.is_builtin(self.folder)

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
        config = self._checked(self.task_config.get(name))
        if config is None:
            return None
        with self._as_input_errors():
            return self._trusted(keras.saving.deserialize_keras_object(config))

    def guide(self, **network):
        """Describe the guidance model, for weights that are assigned next.

        Args:
            **network: the `dtype` and `image_shape` that `load` gets, too.

        Returns:
            A dict, the argument of `load` that keeps the guidance model
            without loading its weights; empty if there is none.
        """
        config = self._checked(self.task_config.get("guidance_model"))
        if config is None:
            return {}
        with self._as_input_errors():
            backbone = config["config"]["backbone"]["config"]
            backbone |= _network_arguments(**network)
        return {"guidance_model": config}

    def load(self, load_weights=True, task_class=None, **overrides):
        """Build the model, with its weights.

        Args:
            load_weights: bool. `False` leaves the weights as initialized, and
                a guidance model out. Defaults to `True`.
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
        self._check_arguments(task_class, overrides)
        network = {
            name: overrides.pop(name)
            for name in ("dtype", "image_shape")
            if name in overrides
        }
        if "backbone" not in overrides:
            overrides["backbone"] = self._build_backbone(
                load_weights, **network
            )
        elif network:
            raise InputError(
                f"{' and '.join(f'`{name}`' for name in network)} cannot be "
                "changed in a `backbone` that is given. Pass them to the "
                "backbone instead."
            )
        given = overrides.get("text_encoder")
        has_other_guide = "guidance_model" in overrides
        loads_rest = load_weights and not has_other_guide
        config = self._checked(self.task_config)
        path = self._find_weights(_TASK_WEIGHTS) if loads_rest else None
        with self._as_input_errors(), _building(path is not None):
            if config.get("guidance_model"):
                self._change_guide(config, loads_rest, overrides)
            task = task_class.from_config({**config, **overrides})
        if given is None and hasattr(task, "text_encoder"):
            self._trusted(task.text_encoder)
        if load_weights:
            # A network alone leaves the rest of the model to the caller.
            self._load_network_weights(task.backbone)
            is_missing = path is None and task.has_task_weights()
            if is_missing and self.task_config and loads_rest:
                raise InputError(
                    f"The preset '{self.name}' holds no {_TASK_WEIGHTS}, the "
                    "weights of its text encoder or guidance model. Restore it "
                    "from a copy, or pass `load_weights=False`."
                )
            if path is not None:
                with self._as_input_errors():
                    task.load_task_weights(path)
            self._check_finite(task)
            if task.guidance_model is not None:
                self._check_finite(task.guidance_model)
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
        if not issubclass(self.backbone_class, requested):
            raise self._is_another(self.backbone_class, requested)
        backbone = self._build_backbone(load_weights, **overrides)
        if load_weights:
            self._load_network_weights(backbone)
            self._check_finite(backbone)
        return backbone

    def _build_backbone(self, loads_weights, **overrides):
        overrides = _network_arguments(**overrides)
        config = self._checked(self.backbone_config)
        with self._as_input_errors(), _building(loads_weights):
            return self.backbone_class.from_config({**config, **overrides})

    def _change_guide(self, config, is_loaded, overrides):
        """Adapt the configuration of the guidance model to the overrides."""
        if is_loaded:
            backbone = overrides["backbone"]
            if hasattr(backbone, "image_shape"):  # Else it is refused later.
                config |= self.guide(
                    dtype=backbone.dtype_policy,
                    image_shape=backbone.image_shape,
                )
            return
        config["guidance_model"] = None  # It would be random.
        is_unconditional = self.backbone_config.get("num_classes") is None
        if is_unconditional and overrides.get("guidance_model") is None:
            config["guidance_scale"] = 1.0

    def _check_arguments(self, task_class, overrides):
        """Raise an `InputError` for what is no argument of the model."""
        ours = names_of_arguments(task_class) | {"dtype", "image_shape"}
        for name in overrides.keys() & self.backbone_config.keys() - ours:
            given = f"{name}={overrides[name]!r}"
            raise InputError(
                f"`{name}` is an argument of the network, not of the "
                f"{task_class.__name__}. Received: {given}. Pass backbone="
                f"{self.backbone_class.__name__}.from_preset({self.name!r}, "
                f"{given})"
            )
        check_arguments(overrides, task_class, others=ours)

    def _load_network_weights(self, backbone):
        """Load the weights into a network that may differ from the preset's."""
        weights = self._find_network_weights()
        config, stored = backbone.get_config(), self.backbone_config
        changes = [
            f"{name}={config[name]!r}"
            for name in stored.keys() - {"dtype", "name", "trainable"}
            if name in config and _plain(config[name]) != _plain(stored[name])
        ]
        try:
            with self._as_input_errors():
                backbone.load_weights(weights)
        except InputError as error:
            if not changes:
                raise
            raise InputError(
                f"The weights of the preset '{self.name}' do not fit a network "
                f"with {', '.join(sorted(changes))}. Pass `load_weights=False`,"
                " and copy those that fit by `keras_simple_diffusion.models."
                f"transfer_weights({self.name!r}, model)`."
            ) from error

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

    def _checked(self, config):
        """Copy a configuration that names only objects which may be made.

        Keras would make any of its own as well. Some of them read files or
        download, and none is part of a model of images.
        """
        for _, value in files.walk_json(config):
            if not isinstance(value, dict) or "class_name" not in value:
                continue
            name = value.get("registered_name") or value["class_name"]
            if not _is_allowed(name, value):
                raise InputError(
                    f"The preset '{self.name}' cannot be loaded: it names "
                    f"'{str(name)[:100]}', which is no registered part of a "
                    "model of images. Import the module that registers it "
                    "first, if you trust it."
                )
        return copy.deepcopy(config)

    def _trusted(self, part):
        """Let the text encoder of a built-in preset be downloaded."""
        if self.is_builtin and isinstance(part, PretrainedTextEncoder):
            part.may_download = True
        return part

    def _find_network_weights(self):
        """Return the local path of the network's weights, or of their index."""
        path = self._find_weights(files.WEIGHTS)
        if path is not None:
            return path
        index = _find(self.location, files.SHARDED_WEIGHTS)
        if index is None:
            raise InputError(f"The preset '{self.name}' holds no weights.")
        # Keras opens the first shard, whichever the index names.
        for shard in ["model_00000.weights.h5", *files.shards_of(index)]:
            if self._find_weights(shard) is None:
                raise InputError(
                    f"The preset '{self.name}' holds no {shard}, a part of its "
                    "weights. Restore it from a copy."
                )
        return index

    def _find_weights(self, name):
        """Return the local path of a file of weights, `None` without it."""
        path = _find(self.location, name)
        if path is not None:
            files.check_weights(path)
        return path

    def _check_finite(self, model):
        """Raise an `InputError` if weights are NaN or infinite."""
        wrong = [
            weight.path
            for weight in model.weights
            if keras.backend.is_float_dtype(weight.dtype)
            and not np.isfinite(to_numpy(weight)).all()
        ]
        if wrong:
            raise InputError(
                f"The weights of the preset '{self.name}' are not finite (NaN "
                f"or infinity in {len(wrong)} arrays, the first is "
                f"'{wrong[0]}'): its training diverged, or the file is "
                "damaged. Use weights of an earlier step or of a copy."
            )

    @contextlib.contextmanager
    def _as_input_errors(self):
        """Turn errors about the preset's files into one line.

        Whatever is made from a foreign configuration can fail in any way, and
        each backend has its own error for arrays that are too large.
        """
        try:
            yield
        except InputError:
            raise
        except Exception as e:
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


def _network_arguments(dtype=None, **others):
    """Return arguments that replace those of a stored network.

    Any policy can run the weights, whichever they were trained with.
    """
    return {"dtype": dtype or keras.config.dtype_policy(), **others}


def _plain(value):
    """Return a value of a configuration as JSON has it."""
    return json.dumps(value, sort_keys=True, default=str)


def _building(loads_weights):
    """Return the context in which to build what may get its weights next."""
    return (
        without_initialization() if loads_weights else contextlib.nullcontext()
    )


def _takes_text(backbone_config):
    return backbone_config.get("context_dim") is not None


def _is_allowed(name, config):
    """Tell if a configuration names an object that a preset may consist of.

    That is any class which this package or the user has registered, and
    Keras's policies of dtypes.
    """
    if not isinstance(name, str):
        return False
    if name.partition(">")[0] in ("keras", "keras_hub", "keras_nlp"):
        return False
    if isinstance(keras.saving.get_registered_object(name), type):
        return True
    is_of_keras = config.get("module") in ("keras", "keras.dtype_policies")
    policy = getattr(keras.dtype_policies, name, None)
    return is_of_keras and isinstance(policy, type)


def _find(location, name):
    """Return the local path of a preset's file, `None` if it has none."""
    if "://" not in location:
        return files.find_inside(location, name)
    try:
        return find_preset_file(location, name)
    except Exception as error:  # Each client of a hub has its own.
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{location}' cannot be read: {reason[:300]} Check the name and "
            "the network, or pass the folder of a copy."
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
