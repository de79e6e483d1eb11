"""Validation and conversion of the arguments of the drawing methods."""

import dataclasses
import functools
import inspect
import secrets
import textwrap
from typing import Any

import numpy as np

from keras_simple_diffusion import samplers
from keras_simple_diffusion.distribution.batches import num_batch_parts
from keras_simple_diffusion.generation.denoising import CLIPPINGS
from keras_simple_diffusion.generation.values import check_images
from keras_simple_diffusion.generation.values import is_float
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_choice
from keras_simple_diffusion.utils.errors import check_flag
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.errors import check_integers
from keras_simple_diffusion.utils.errors import check_number


@dataclasses.dataclass(frozen=True, eq=False)
class SamplingOptions:
    """Options of sampling, which all drawing methods share.

    Args:
        num_steps: int. Number of steps, each of one network evaluation (two
            for `HeunSampler`). Defaults to the model's.
        guidance_scale: float. 1 is no guidance, at half the cost. Defaults to
            the model's.
        seed: int. Image `i` depends on the seed and on `i` alone, up to float
            rounding. Defaults to a random one.
        batch_size: int. Number of images drawn at once. Defaults to `64`.
        noise: float array of shape `(N, H, W, C)`, the standard normal noise
            to start from. Defaults to that of the seed.
        indices: list of `N` ints, the numbers `i` of the images. Defaults to
            `0, 1, ...`; others draw a part of a larger set.
        sampler: a `keras_simple_diffusion.samplers.Sampler`, or its name such
            as `"ddim"`. Defaults to the model's.
        spacing: string. Spacing of the steps, see
            `keras_simple_diffusion.samplers.log_snr_grid`. Defaults to
            `"time"`.
        guidance_interval: tuple `(low, high)` of log-SNRs outside of which
            there is no guidance, and no cost of it. Defaults to the model's,
            which is mostly `None`, no limit.
        guidance_model: a weaker model of the same class whose prediction
            replaces the unconditional one (autoguidance). It is given the same
            condition. Defaults to the model's own, as after finetuning, which
            is given none.
        guidance_rescale: float in `[0, 1]`, see
            `keras_simple_diffusion.samplers.rescale_guidance`. Defaults to
            `None`.
        clipping: string or `None`. Clipping of the predicted clean images:
            `"static"` to [-1, 1], `"dynamic"`, see
            `keras_simple_diffusion.samplers.clip_dynamic`, or none. Defaults
            to `"static"`.
        return_steps: bool. Whether to return a tuple of the images, the noisy
            images at each step and the clean ones predicted from them, the
            last two of shape `(N, num_steps, H, W, C)`. Defaults to `False`.
        on_step_end: function of a `DrawingStep`, called after each step of
            each batch, with the clean images predicted in it. An exception
            that it raises ends the drawing. Not with `return_steps`, nor on
            several devices. Defaults to `None`.
        image_size: tuple `(height, width)` of the images, for a network that
            takes other sizes of the same area; `edit`, `inpaint` and `invert`
            take that of their images. Defaults to the model's.
        allow: bool. Whether a model that was distilled for some number of
            steps may draw with another one, or with guidance. Defaults to
            `False`.
    """

    num_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    batch_size: int = 64
    noise: Any = None
    indices: Any = None
    sampler: Any = None
    spacing: str = "time"
    guidance_interval: tuple | None = None
    guidance_model: Any = None
    guidance_rescale: float | None = None
    clipping: str | None = "static"
    return_steps: bool = False
    on_step_end: Any = None
    image_size: tuple | None = None
    allow: bool = False

    def at_size_of(self, given):
        """Return the options for the size of a start or of a constraint."""
        size = getattr(given, "image_size", None)
        return (
            self if size is None else dataclasses.replace(self, image_size=size)
        )

    def image_shape(self, backbone):
        """Return the shape of the images to draw with a network."""
        size = to_image_size(self.image_size, backbone)
        return (*size, backbone.image_shape[2])

    def resolve(self, task, conditions):
        """Check the options, and fill in a model's defaults.

        Args:
            task: a `DiffusionTask`.
            conditions: the `Conditions` of the images to draw.

        Returns:
            `SamplingOptions` without `None` for the number of steps, scale,
            seed, indices, sampler and size.

        Raises:
            InputError: if an option is invalid, or does not fit the model.
        """
        shape = self.image_shape(task.backbone)
        scale = _or(self.guidance_scale, task.guidance_scale)
        guide = self.guidance_model
        if guide is None and is_guided(task, scale):
            guide = task.guidance_model
        options = dataclasses.replace(
            self,
            image_size=shape[:2],
            num_steps=_or(self.num_steps, task.num_steps),
            guidance_scale=scale,
            guidance_model=guide,
            seed=to_seed(self.seed),
            indices=to_indices(self.indices, conditions.count),
            noise=to_noise(self.noise, conditions.count, shape),
            sampler=samplers.get(_or(self.sampler, task.sampler)),
        )
        check_guidance(scale, bool(conditions.given), guide)
        _check_scale_input(options, task.backbone.guidance_range)
        interval = check_interval(self.guidance_interval)
        if interval is None and is_guided(task, options.guidance_scale):
            interval = task.guidance_interval
        options = dataclasses.replace(options, guidance_interval=interval)
        if not check_flag("allow", self.allow):
            _check_distilled(options, task)
        if self.guidance_rescale is not None:
            check_number(
                "guidance_rescale",
                self.guidance_rescale,
                at_least=0.0,
                at_most=1.0,
            )
        check_choice("clipping", self.clipping, tuple(CLIPPINGS))
        check_integer("batch_size", self.batch_size)
        check_flag("return_steps", self.return_steps)
        if self.on_step_end is not None:
            _check_on_step_end(self)
        return options

    def step_callback(self, conditions):
        """Return `on_step_end` for images as the network sees them, or `None`.

        Args:
            conditions: the `Conditions` of the images.
        """
        if self.on_step_end is None:
            return None
        present = dataclasses.replace(conditions, is_single=False).present

        def tell(step):
            images = present(step.images)
            self.on_step_end(dataclasses.replace(step, images=images))

        return tell

    def describe(self):
        """Describe resolved options in the form of the command line.

        Returns:
            A dict of JSON values.
        """
        interval = self.guidance_interval
        return {
            "seed": self.seed,
            "steps": self.num_steps,
            "guidance": self.guidance_scale,
            "guidance_interval": interval and f"{interval[0]},{interval[1]}",
            "guidance_rescale": self.guidance_rescale,
            "sampler": samplers.identify(self.sampler),
            "spacing": self.spacing,
            "clipping": self.clipping or "none",
        }


def with_sampling_options(method):
    """Give a method the fields of `SamplingOptions` as arguments.

    The method itself receives them as one object, `options`. Its signature
    shows all of them, after its own positional arguments, and its docstring
    describes them where it has the line `{options}`.

    Args:
        method: function with an argument `options`.

    Returns:
        A function.
    """
    fields = dataclasses.fields(SamplingOptions)
    own = [
        parameter
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name != "options"
    ]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    by_name = [p.name for p in own if p.kind == inspect.Parameter.VAR_KEYWORD]
    signature = inspect.Signature(
        [
            *(parameter for parameter in own if parameter.kind == kind),
            *(
                inspect.Parameter(f.name, kind, default=f.default)
                for f in fields
            ),
            *(parameter for parameter in own if parameter.kind != kind),
        ]
    )

    @functools.wraps(method)
    def wrapper(*args, **kwargs):
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{method.__name__}() {error}") from None
        arguments = dict(given.arguments)
        options = SamplingOptions(
            **{
                field.name: arguments.pop(field.name)
                for field in fields
                if field.name in arguments
            }
        )
        for name in by_name:
            arguments.update(arguments.pop(name, {}))
        return method(**arguments, options=options)

    wrapper.__signature__ = signature
    described = textwrap.dedent(
        SamplingOptions.__doc__.partition("Args:\n")[2]
    ).strip()
    wrapper.__doc__ = method.__doc__.replace(
        "{options}", textwrap.indent(described, 12 * " ").lstrip()
    )
    return wrapper


def _or(value, default):
    return default if value is None else value


# === Guidance ===


_LARGEST_SCALE = 1e30  # Differences times the scale fit into float32.


def check_guidance(guidance_scale, is_conditional, guidance_model=None):
    """Raise an `InputError` if guidance is impossible or without effect.

    That is if the scale is no finite number or overflows, if a guidance model
    is given with a scale of 1, or if an unconditional model is to be guided
    without one.
    """
    check_number(
        "guidance_scale",
        guidance_scale,
        at_least=-_LARGEST_SCALE,
        at_most=_LARGEST_SCALE,
    )
    if guidance_scale == 1.0 and guidance_model is not None:
        raise InputError(
            "`guidance_model` does nothing without guidance: pass a "
            "`guidance_scale` other than 1, such as 1.5."
        )
    if guidance_model is not None:
        return
    if guidance_scale != 1.0 and not is_conditional:
        raise InputError(
            "Guidance needs a conditional model, and this one is "
            f"unconditional. Received: guidance_scale={guidance_scale}"
        )


def check_guidance_model(guidance_model, task):
    """Raise an `InputError` unless a guidance model draws the same images."""
    if guidance_model is None:
        return
    if not isinstance(guidance_model, type(task)):
        raise InputError(
            f"`guidance_model` must be a {type(task).__name__}. Received: "
            f"guidance_model={guidance_model!r}"
        )
    names = "image_shape num_classes context_dim portrait_flag guidance_range"
    for name in names.split():
        ours = getattr(task.backbone, name)
        theirs = getattr(guidance_model.backbone, name)
        # A student that takes the scale keeps the guide of its teacher.
        if ours != theirs and (name, theirs) != ("guidance_range", None):
            raise InputError(
                f"`guidance_model` must have the {name} of the model, {ours}. "
                f"Received: a model with {name}={theirs}"
            )


def _check_distilled(options, task):
    if task.distilled_steps is None:
        return
    made_for = f"{task.distilled_steps} steps of {task.sampler}"
    if task.backbone.guidance_range is not None:
        if options.num_steps != task.distilled_steps:
            raise InputError(
                f"This model was distilled for {made_for}: leave out "
                "`num_steps`, or pass `allow=True` in Python. Received: "
                f"num_steps={options.num_steps}"
            )
        return
    wanted = options.num_steps, options.guidance_scale
    if wanted != (task.distilled_steps, 1.0):
        raise InputError(
            f"This model was distilled for {made_for} without guidance: leave "
            "out `num_steps` and `guidance_scale`, or pass `allow=True` in "
            f"Python. Received: num_steps={wanted[0]}, "
            f"guidance_scale={wanted[1]}"
        )


def can_guide(task):
    """Tell if a model has a weaker prediction to be guided away from.

    That is the one without the condition, or the one of its guidance model.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
    """
    network = task.backbone
    return (
        network.num_classes is not None
        or network.context_dim is not None
        or task.guidance_model is not None
    )


def is_guided(task, scale):
    """Tell if each step of a sampler combines two predictions.

    A network that takes the guidance scale as an input predicts with guidance
    by itself.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        scale: float. The guidance scale.
    """
    return scale != 1.0 and task.backbone.guidance_range is None


def _check_scale_input(options, guidance_range):
    """Check the guidance of a network that receives its scale as an input."""
    if guidance_range is None:
        return
    low, high = guidance_range
    if not low <= options.guidance_scale <= high:
        raise InputError(
            f"This model was distilled for guidance scales from {low:g} to "
            f"{high:g}. Received: guidance_scale={options.guidance_scale}"
        )
    for name in ("guidance_interval", "guidance_rescale", "guidance_model"):
        if getattr(options, name) is not None:
            raise InputError(
                "The network of this model predicts with guidance at once: "
                f"leave out `{name}`."
            )


def check_interval(interval):
    """Check the log-SNRs between which there is guidance.

    Args:
        interval: tuple `(low, high)`, or `None`.

    Returns:
        A tuple of two numbers, or `None`.

    Raises:
        InputError: if it is not two increasing numbers.
    """
    if interval is None:
        return None
    numbers = np.asarray(interval)
    if (
        numbers.dtype.kind not in "if"
        or numbers.shape != (2,)
        or not numbers[0] < numbers[1]
    ):
        raise InputError(
            "`guidance_interval` must be two increasing log-SNRs. "
            f"Received: guidance_interval={interval}"
        )
    return tuple(interval)


def _check_on_step_end(options):
    parts = num_batch_parts()
    if not callable(options.on_step_end) or options.return_steps or parts > 1:
        raise InputError(
            "`on_step_end` must be a function of one argument, and needs "
            "`return_steps=False` and a single device. Received: "
            f"on_step_end={options.on_step_end!r}, "
            f"return_steps={options.return_steps}, {parts} devices"
        )


def check_dropout(name, rate):
    """Raise an `InputError` unless a rate of dropout is in `[0, 1]`."""
    check_number(name, rate, at_least=0.0, at_most=1.0)


# === Random numbers ===


def to_seed(seed):
    """Convert a seed to an int, `None` to a random one."""
    if seed is None:
        return secrets.randbits(63)
    return check_number("seed", seed, whole=True)


def to_noise(noise, num_images, image_shape):
    """Convert noise to a float32 array of the images' shape, or `None`."""
    if noise is None:
        return None
    shape = (num_images, *image_shape)
    noise = np.asarray(noise)
    is_number = is_float(noise) or noise.dtype.kind in "iu"
    if not is_number or noise.shape != shape or not np.isfinite(noise).all():
        raise InputError(
            f"`noise` must be finite numbers of shape {shape}. Received: "
            f"{noise.dtype} of shape {noise.shape}"
        )
    return noise.astype("float32")


def to_indices(indices, num_images):
    """Convert the numbers of the images to an int32 array."""
    if indices is None:
        return np.arange(num_images, dtype="int32")
    indices = np.asarray(indices)
    if (
        indices.shape != (num_images,)
        or indices.dtype.kind not in "iu"
        or (indices < 0).any()
        or (indices >= 2**31).any()
    ):
        raise InputError(
            f"`indices` must be {num_images} numbers of at least 0, one an "
            f"image. Received: {indices.dtype} of shape {indices.shape}"
        )
    return indices.astype("int32")


# === Images ===


def to_image_size(image_size, backbone):
    """Check the size of images, `None` for that of a network.

    Args:
        image_size: `(height, width)`, or `None`.
        backbone: a `DiffusionBackbone`.

    Returns:
        A tuple `(height, width)`.

    Raises:
        InputError: if the network does not take images of this size.
    """
    if image_size is None:
        return backbone.image_shape[:2]
    size = check_integers("image_size", image_size)
    if len(size) != 2:
        raise InputError(
            "`image_size` must be (height, width). Received: "
            f"image_size={image_size!r}"
        )
    backbone.check_image_size(*size)
    return size


def count_images(num_images, labels):
    """Infer the number of images from their labels if it is not given."""
    if num_images is None:
        num_images = 1 if labels is None else len(labels)
    num_images = check_integer("num_images", num_images)
    if labels is not None and len(labels) != num_images:
        raise InputError(
            "There must be one label per image. Received: "
            f"num_images={num_images} and {len(labels)} labels"
        )
    return num_images


def to_array_of_images(images):
    """Convert images to an array of four axes."""
    images = np.asarray(images)
    if images.ndim != 4:
        raise InputError(
            "Images must be an array of shape (N, H, W, C), uint8 or float in "
            f"[-1, 1]. Received: {images.dtype} of shape {images.shape}"
        )
    return images


def to_float_images(images, backbone):
    """Convert images that a network takes to a float32 array in [-1, 1]."""
    images = to_array_of_images(images)
    height, width, channels = backbone.image_shape
    if images.shape[3] != channels:
        raise InputError(
            f"Images must have shape (N, {height}, {width}, {channels})"
            f". Received: {images.shape}"
        )
    backbone.check_image_size(*images.shape[1:3])
    return _to_float(images)


def to_small_images(images, image_shape):
    """Convert images to be enlarged to a float32 array in [-1, 1]."""
    images = np.asarray(images)
    height, width, channels = image_shape
    if images.ndim == 4 and images.shape[3] == channels and all(images.shape):
        factor = height // images.shape[1]
        if (factor * images.shape[1], factor * images.shape[2]) == (
            height,
            width,
        ):
            return _to_float(images)
    raise InputError(
        f"The model draws images of {height} x {width} x {channels}; small "
        "ones must have both sides a whole number of times smaller. Received: "
        f"shape {images.shape}"
    )


def _to_float(images):
    check_images(images)
    if is_float(images):
        return images.astype("float32")
    return images.astype("float32") / np.float32(127.5) - np.float32(1.0)


def to_mask(mask, shape):
    """Convert a mask of images of a shape to a bool array `(N, H, W, 1)`."""
    mask = np.asarray(mask)
    count, height, width, _ = shape
    if mask.shape not in ((height, width), (count, height, width)):
        raise InputError(
            f"`mask` must have shape ({height}, {width}) or ({count}, {height},"
            f" {width}), True where to draw. Received: {mask.shape}"
        )
    return np.broadcast_to(mask != 0, shape[:3])[..., None]
