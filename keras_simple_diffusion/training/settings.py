"""Settings of a run: its recipe, and everything else it was asked for."""

import dataclasses
import difflib
import functools
import json
import pathlib

from keras_simple_diffusion import schedules
from keras_simple_diffusion.data.loading import absolute_name
from keras_simple_diffusion.models.backbone import check_guidance_range
from keras_simple_diffusion.optimizers.construction import make_optimizer
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_choice
from keras_simple_diffusion.utils.errors import check_number
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.presets import read_json

_FILE = "config.json"
_MAX_COUNT = 10**9  # Of steps, and of images at once.


# === Checks of values, from Python, the command line or a file ===


def _check_type(name, value, kind, noun):
    if not isinstance(value, kind):
        raise InputError(f"`{name}` must be {noun}. Received: {name}={value!r}")


def _check_strings(name, value):
    if not isinstance(value, list) or not all(
        isinstance(each, str) for each in value
    ):
        raise InputError(
            f"`{name}` must be a list of strings. Received: {name}={value!r}"
        )


def _check_size(name, value):
    _check_type(name, value, list, "a list of height and width")
    if len(value) != 2:
        raise InputError(
            f"`{name}` must be height and width. Received: {name}={value!r}"
        )
    for each in value:
        check_number(name, each, at_least=1, at_most=2**16, whole=True)


def check_schedule(name, value):
    """Raise an `InputError` unless a text stands for a noise schedule."""
    _check_type(name, value, str, "a string")
    schedules.get(value, image_size=64)


def _check_scale(name, value):
    if isinstance(value, list):
        check_guidance_range(name, value)
    else:
        check_number(name, value)


_is_positive = functools.partial(check_number, above=0)
_is_count = functools.partial(
    check_number, at_least=1, at_most=_MAX_COUNT, whole=True
)
_is_several = functools.partial(
    check_number, at_least=2, at_most=_MAX_COUNT, whole=True
)
_is_rate = functools.partial(check_number, at_least=0, below=1)
_is_text = functools.partial(_check_type, kind=str, noun="a string")
_is_flag = functools.partial(_check_type, kind=bool, noun="true or false")

_RECIPE_CHECKS = {
    "steps": _is_count,
    "batch_size": _is_count,
    "optimizer": functools.partial(
        check_choice, choices=("adam", "adamw", "muon")
    ),
    "learning_rate": _is_positive,
    "beta_1": _is_rate,
    "beta_2": _is_rate,
    "epsilon": functools.partial(check_number, at_least=0),
    "weight_decay": functools.partial(check_number, at_least=0),
    "warmup_steps": functools.partial(
        check_number, at_least=0, at_most=_MAX_COUNT, whole=True
    ),
    "clip_norm": _is_positive,
    "ema_decay": _is_rate,
    "accumulate": _is_count,
    "flip": _is_flag,
    "cooldown_steps": functools.partial(
        check_number, at_least=0, at_most=_MAX_COUNT, whole=True
    ),
}
_STUDENT_CHECKS = {
    "method": functools.partial(
        check_choice, choices=("consistency", "progressive", "moments")
    ),
    "num_steps": functools.partial(
        check_number, at_least=1, at_most=1024, whole=True
    ),
    "guidance_scale": _check_scale,
    "updates": _is_count,
}
_RUN_CHECKS = {
    "data": _is_text,
    "preset": _is_text,
    "image_size": _check_size,
    "dtype": _is_text,
    "rematerialize": _check_strings,
    "schedule": check_schedule,
    "stratified": _is_flag,
    "seed": functools.partial(
        check_number, at_least=0, at_most=2**32 - 1, whole=True
    ),
    "initialize_from": _is_text,
    "embeddings": _is_text,
    "minutes": functools.partial(check_number, at_least=0),
    "checkpoint_every": _is_count,
    "samples_every": _is_count,
    "quick_fid": _is_several,
    "feature_weights": _is_text,
    "keep": _is_several,
    "snapshots": _is_several,
    "workers": functools.partial(
        check_number, at_least=0, at_most=1024, whole=True
    ),
    "crop": functools.partial(check_choice, choices=("center", "random")),
    "aspect_buckets": functools.partial(
        check_number, at_least=2, at_most=64, whole=True
    ),
    "distribution": _is_text,
    "log": _check_strings,
    "student": lambda name, value: _check_type(
        name, value, StudentSettings, "an object"
    ),
    "plan": _check_strings,
    "facts": functools.partial(_check_type, kind=dict, noun="an object"),
}


def _check_fields(settings, checks):
    """Check the fields of a dataclass; `None` is valid if it is the default."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        is_left_out = value is None and field.default is None
        if field.name in checks and not is_left_out:
            checks[field.name](field.name, value)


# === Recipe and run ===


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Recipe for training a network; `recipe.json` of a preset.

    Args:
        steps: int. Number of training steps.
        batch_size: int. Number of images per step.
        optimizer: string. `"adam"`, `"adamw"` or `"muon"`, see
            `keras_simple_diffusion.optimizers.make_optimizer`.
        learning_rate: float. Learning rate after the warm-up.
        beta_1: float. First-moment decay of Adam.
        beta_2: float. Second-moment decay of Adam.
        epsilon: float. Adam's epsilon.
        weight_decay: float. Decoupled weight decay of `"adamw"` and `"muon"`.
        warmup_steps: int. Number of steps of linear warm-up.
        clip_norm: float. Maximum norm of the whole gradient.
        ema_decay: float. Decay of the exponential average of the weights.
        accumulate: int. Number of batches per step. Each holds `batch_size /
            accumulate` images, and their gradients are accumulated.
        flip: bool. Mirror half of the images.
        cooldown_steps: int. Number of the last steps, in which the learning
            rate falls linearly to zero.
    """

    steps: int = 100_000
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-12
    weight_decay: float = 0.0
    warmup_steps: int = 1000
    clip_norm: float = 1.0
    ema_decay: float = 0.9999
    accumulate: int = 1
    flip: bool = False
    cooldown_steps: int = 0

    def __post_init__(self):
        _check_fields(self, _RECIPE_CHECKS)
        if self.batch_size % self.accumulate:
            raise InputError(
                "`batch_size` must be a multiple of `accumulate`. Received: "
                f"batch_size={self.batch_size}, accumulate={self.accumulate}"
            )

    @classmethod
    def from_dict(cls, fields, source="the recipe"):
        """Make a recipe of some of its fields.

        Args:
            fields: dict. The other fields have their defaults.
            source: string that names the fields' origin in errors. Defaults
                to `"the recipe"`.

        Returns:
            A `Recipe`.

        Raises:
            InputError: if a field is unknown, or its value out of range.
        """
        check_names(fields, field_names(cls), source)
        try:
            return cls(**fields)
        except InputError as error:
            raise InputError(f"In {source}: {error}") from error

    def make_optimizer(self):
        """Create the `keras.optimizers.Optimizer` of the recipe."""
        return make_optimizer(
            self.optimizer,
            self.learning_rate,
            warmup_steps=max(self.warmup_steps, 1),
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            gradient_accumulation_steps=self.accumulate,
            steps=self.steps,
            cooldown_steps=self.cooldown_steps,
        )


@dataclasses.dataclass(frozen=True)
class StudentSettings:
    """Settings of a distillation: the student, and how it is taught.

    Args:
        method: string. `"consistency"`, `"progressive"` or `"moments"`.
        num_steps: int. Number of steps of the student, at most 1024.
        guidance_scale: float. Guidance of the teacher, which the student
            learns; or a list of two, the range of a scale that is an input.
        updates: int. Number of updates of the weights over which phases, or
            steps of the teacher, are spread. It is the run's number of steps
            at its start.
    """

    method: str
    num_steps: int
    guidance_scale: float | list
    updates: int

    def __post_init__(self):
        _check_fields(self, _STUDENT_CHECKS)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Settings of a run; `config.json` of its folder.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.
        preset: string. Name of the preset that gave network and recipe.
        recipe: a `Recipe`.
        image_size: list of two ints, height and width.
        dtype: string or `None`. Dtype policy of the network; `None` takes the
            preset's.
        rematerialize: list of strings or `None`. Types of blocks that are
            recomputed for the gradient to save memory; `None` takes the
            preset's.
        schedule: string or `None`. Noise schedule, see
            `keras_simple_diffusion.schedules.get`; `None` takes the preset's.
        stratified: bool or `None`. Cover the noise levels evenly in each
            batch; `None` takes the preset's.
        seed: int. Seed of weights, order of images, noise and dropout.
        initialize_from: string or `None`. Preset or run whose weights the
            network starts with.
        embeddings: string or `None`. Folder of the captions' embeddings.
        minutes: float or `None`. Maximum training time of the whole run.
        checkpoint_every: int or `None`. Steps between checkpoints. `None`
            saves by time, after 2 minutes and then every 10. There is always
            a checkpoint at the end.
        samples_every: int or `None`. Steps between sheets of samples. `None`
            draws some at 10, 25 and 50 % of the steps, if they take little of
            the time. There is always a sheet at the end.
        quick_fid: int or `None`. Number of images of a Fréchet distance that
            is logged during training, see
            `keras_simple_diffusion.evaluation.QuickFrechet`.
        feature_weights: string or `None`. File of Inception's weights for
            `quick_fid`; `None` downloads them.
        keep: int. Number of checkpoints to keep.
        snapshots: int or `None`. Number of times, over the run, at which
            averages of the weights are kept for `reconstruct`.
        workers: int. Number of processes that read images, 0 for threads.
        crop: string. `"center"` or `"random"`.
        aspect_buckets: int or `None`. Number of shapes of the area of
            `image_size`, see `keras_simple_diffusion.data.bucket_sizes`. Each
            image is cut to the nearest. `None` cuts all to one.
        distribution: string or `None`. See
            `keras_simple_diffusion.distribution.distribute`.
        log: list of strings. Loggers besides `history.csv`: `"tensorboard"`,
            `"wandb"`.
        student: `StudentSettings`, or `None` if the run is no distillation.
        plan: list of strings. Text of the plan that chose the settings, empty
            without one.
        facts: dict. Results of the start: number of images, versions.
    """

    data: str
    preset: str
    recipe: Recipe
    image_size: list
    dtype: str | None = None
    rematerialize: list | None = None
    schedule: str | None = None
    stratified: bool | None = None
    seed: int = 0
    initialize_from: str | None = None
    embeddings: str | None = None
    minutes: float | None = None
    checkpoint_every: int | None = None
    samples_every: int | None = None
    quick_fid: int | None = None
    feature_weights: str | None = None
    keep: int = 3
    snapshots: int | None = None
    workers: int = 0
    crop: str = "center"
    aspect_buckets: int | None = None
    distribution: str | None = None
    log: list = dataclasses.field(default_factory=list)
    student: StudentSettings | None = None
    plan: list = dataclasses.field(default_factory=list)
    facts: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _check_fields(self, _RUN_CHECKS)

    @classmethod
    def from_preset(cls, preset, options):
        """Complete the options of a new run by those of a preset.

        Args:
            preset: a `keras_simple_diffusion.models.Preset`.
            options: dict of fields of this class and of `Recipe`. Paths may
                be relative; `image_size` may be one int.

        Returns:
            `RunSettings`, in which paths are absolute, so that the run can be
            resumed from anywhere.
        """
        recipe = dataclasses.replace(
            Recipe.from_dict(preset.recipe, f"the recipe of '{preset.name}'"),
            **_take(options, field_names(Recipe)),
        )
        own = {**_take(options, field_names(cls)), "preset": preset.name}
        if "data" in own:
            own["data"] = absolute_name(own["data"])
        for name in ("initialize_from", "embeddings", "feature_weights"):
            if name in own:
                own[name] = absolute(own[name])
        for name in ("rematerialize", "log"):
            if isinstance(own.get(name), tuple):
                own[name] = list(own[name])
        size = own.pop("image_size", None)
        if size is None:
            size = preset.backbone_config["image_shape"][:2]
        elif isinstance(size, int):
            size = (size, size)
        return cls(**own, recipe=recipe, image_size=list(size))

    @classmethod
    def read(cls, folder):
        """Read the settings of a run.

        Args:
            folder: path of the run.

        Returns:
            `RunSettings`.

        Raises:
            InputError: if `folder` holds no run.
        """
        path = pathlib.Path(folder) / _FILE
        if not path.exists():
            raise InputError(
                f"There is no run at '{folder}': it has no {_FILE}. Start one "
                f"with `train --data ... --output {folder}`."
            )
        try:
            content = read_json(path)
            _check_type("recipe", content["recipe"], dict, "an object")
            content["recipe"] = Recipe.from_dict(content["recipe"])
            if content.get("student") is not None:
                _check_type("student", content["student"], dict, "an object")
                content["student"] = StudentSettings(**content["student"])
            settings = cls(**content)
            for name in ("fingerprint", "num_images"):
                settings.facts[name]
            return settings
        except (InputError, TypeError, KeyError) as error:
            raise InputError(
                f"'{path}' is not the configuration of a run of this version: "
                f"{error}"
            ) from error

    def write(self, folder):
        """Write `config.json` into the folder of a run."""
        with whole_file(pathlib.Path(folder) / _FILE) as draft:
            draft.write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    def to_dict(self):
        """Return all settings as JSON types."""
        return dataclasses.asdict(self)

    def override(self, steps=None, minutes=None, data=None):
        """Return the settings of the same run, longer, shorter or moved."""
        changes = {} if data is None else {"data": absolute_name(data)}
        if steps is not None:
            changes["recipe"] = dataclasses.replace(self.recipe, steps=steps)
        if minutes is not None:
            changes["minutes"] = minutes
        return dataclasses.replace(self, **changes)


def names_of_options():
    """List the names of the settings that can be given, of recipe and run."""
    names = {*field_names(Recipe), *field_names(RunSettings)}
    return sorted(names - {"recipe", "student", "plan", "facts"})


def field_names(cls):
    """List the names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(cls)]


def check_names(names, known, source):
    """Raise an `InputError` unless all names are known.

    Args:
        names: iterable of strings.
        known: list of strings.
        source: string that names the origin of the names in the error.
    """
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'? " if close else ""
            raise InputError(
                f"Unknown setting '{name}' in {source}. {hint}Known: "
                f"{', '.join(known)}"
            )


def _take(options, names):
    return {name: options[name] for name in names if name in options}


def absolute(name):
    """Return the absolute path of what exists; other names as strings."""
    path = pathlib.Path(name)
    return str(path.resolve()) if path.exists() else str(name)
