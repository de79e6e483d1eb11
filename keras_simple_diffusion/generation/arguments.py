"""What `generate` is asked for, and the errors when it cannot be."""

import re
import secrets

import numpy as np

from keras_simple_diffusion.generation.programs import CLIPPINGS
from keras_simple_diffusion.models.fit_data import check_labels
from keras_simple_diffusion.samplers.sampler import Sampler
from keras_simple_diffusion.utils.errors import InputError


def find_labels(labels, num_classes, class_names):
    """Class numbers of the images to draw.

    Args:
        labels: list of ints and class names, or `None`.
        num_classes: int, or `None` for an unconditional model.
        class_names: list of strings or `None`.

    Returns:
        An int32 array, or `None` for an unconditional model.

    Raises:
        InputError: if labels are missing, not wanted, or not classes.
    """
    if num_classes is None:
        if labels is not None:
            raise InputError(
                "The model is unconditional: `labels` must be left out. "
                f"Received: labels={labels}"
            )
        return None
    if labels is None:
        raise InputError(
            f"The model has {num_classes} classes: pass `labels`, one an "
            f"image, each in [0, {num_classes - 1}], or {num_classes} for no "
            "class."
        )
    check_list_of_labels(labels)
    numbers = [_number_of(label, class_names) for label in labels]
    if numbers:
        check_labels(numbers, num_classes)
    return np.array(numbers, "int32")


def choose_labels(task, labels, num_images=None):
    """One label an image from a list in a string, repeated in turn.

    Args:
        task: a `DiffusionModel`.
        labels: string or `None` for all classes.
        num_images: int or `None` for one image a label, or 16.

    Returns:
        A tuple of the number of images and the labels or `None`.
    """
    num_classes = task.backbone.num_classes
    chosen = None
    if labels is not None:
        chosen = [_find_label(task, text) for text in labels.split(",")]
    elif num_classes is not None:
        chosen = list(range(num_classes))
    if num_images is None:
        num_images = 16 if chosen is None else len(chosen)
    if chosen is not None:
        chosen = [chosen[i % len(chosen)] for i in range(num_images)]
    return num_images, chosen


def _find_label(task, text):
    text = text.strip()
    is_number = re.fullmatch("-?[0-9]+", text)
    if text in (task.class_names or []) or not is_number:
        return text
    return int(text)


def label_conditions(labels):
    """What a network takes of labels, or of `None`: a dict."""
    return {} if labels is None else {"labels": labels}


def check_list_of_labels(labels):
    """Raise an `InputError` for one label where there must be a list."""
    if labels is not None and (
        isinstance(labels, str) or not hasattr(labels, "__len__")
    ):
        raise InputError(
            "`labels` must be a list, one an image, such as [3, 3]. Received: "
            f"labels={labels!r}"
        )


def _number_of(label, class_names):
    if not isinstance(label, str):
        return label
    if label not in (class_names or []):
        raise InputError(
            f"The model has no class named '{label}'. Its classes: "
            f"{', '.join(class_names or ['without names'])}"
        )
    return class_names.index(label)


def count_images(num_images, labels):
    """The number of images, from their labels if it is not given."""
    if num_images is None:
        num_images = 1 if labels is None else len(labels)
    if num_images < 1 or (labels is not None and len(labels) != num_images):
        raise InputError(
            "`num_images` must be at least 1, and there must be one label an "
            f"image. Received: num_images={num_images} and "
            f"{'no' if labels is None else len(labels)} labels"
        )
    return num_images


def check_guidance(guidance_scale, is_conditional, guidance_model=None):
    """Raise an `InputError` for guidance that cannot be, or does nothing."""
    if not np.isfinite(guidance_scale):
        raise InputError(
            "`guidance_scale` must be a finite number. Received: "
            f"guidance_scale={guidance_scale}"
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


def check_dropout(name, rate):
    """Raise an `InputError` unless a rate of dropout is a share."""
    if not 0.0 <= rate <= 1.0:
        raise InputError(f"`{name}` must be in [0, 1]. Received: {name}={rate}")


def check_sampler(sampler):
    """Raise an `InputError` for what is no sampler."""
    if sampler is not None and not isinstance(sampler, Sampler):
        raise InputError(
            "`sampler` must be a keras_simple_diffusion.samplers.Sampler, such "
            f"as DDIMSampler(). Received: sampler={sampler!r}"
        )


def check_guidance_model(guidance_model, model):
    """Raise an `InputError` unless the weaker model draws such images."""
    if guidance_model is None:
        return
    if not isinstance(guidance_model, type(model)):
        raise InputError(
            f"`guidance_model` must be a {type(model).__name__}. Received: "
            f"guidance_model={guidance_model!r}"
        )
    for name in ("image_shape", "num_classes", "context_dim"):
        ours = getattr(model.backbone, name)
        theirs = getattr(guidance_model.backbone, name)
        if ours != theirs:
            raise InputError(
                f"`guidance_model` must have the {name} of the model, {ours}. "
                f"Received: a model with {name}={theirs}"
            )


def check_guidance_options(interval, rescale):
    """Raise an `InputError` for an empty interval, or too much rescaling."""
    if interval is not None:
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
    if rescale is not None and not 0.0 <= rescale <= 1.0:
        raise InputError(
            "`guidance_rescale` must be in [0, 1]. Received: "
            f"guidance_rescale={rescale}"
        )


def check_clipping(clipping):
    """Raise an `InputError` for an unknown way of clipping."""
    if clipping not in CLIPPINGS:
        raise InputError(
            "`clipping` must be 'static', 'dynamic' or None. Received: "
            f"clipping={clipping!r}"
        )


def to_seed(seed):
    """The seed as an int; a random one for `None`."""
    if seed is None:
        return secrets.randbits(63)
    if not isinstance(seed, (int, np.integer)):
        raise InputError(
            f"`seed` must be a whole number. Received: seed={seed!r}"
        )
    return int(seed)


def to_noise(noise, num_images, image_shape):
    """The noise as a float32 array of the images' shape, or `None`."""
    if noise is None:
        return None
    shape = (num_images, *image_shape)
    noise = np.asarray(noise, "float32")
    if noise.shape != shape or not np.isfinite(noise).all():
        raise InputError(
            f"`noise` must be finite numbers of shape {shape}. Received: "
            f"{noise.shape}"
        )
    return noise


def to_indices(indices, num_images):
    """The images' numbers as an int32 array."""
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


def count_skipped(strength, num_steps):
    """How many steps of the grid an edit of that strength leaves out."""
    if strength is None:
        return 0
    if not 0.0 <= strength <= 1.0:
        raise InputError(
            f"`strength` must be in [0, 1]. Received: strength={strength}"
        )
    if strength == 0.0:
        return num_steps
    return min(round((1.0 - strength) * num_steps), num_steps - 1)


def to_images(images, image_shape):
    """Given images as a float32 array in [-1, 1]."""
    images = np.asarray(images)
    if images.shape[1:] != tuple(image_shape) or images.ndim != 4:
        raise InputError(
            f"Images must have shape (N, {', '.join(map(str, image_shape))})"
            f". Received: {images.shape}"
        )
    return _to_float(images)


def _to_float(images):
    is_float = np.issubdtype(images.dtype, np.floating)
    if is_float and (np.abs(images) <= 1.001).all():
        return images.astype("float32")
    if images.dtype != "uint8":
        raise InputError(
            "Images must be uint8 in [0, 255], or float in [-1, 1]. "
            f"Received: {images.dtype} in [{images.min()}, {images.max()}]"
        )
    return images.astype("float32") / np.float32(127.5) - np.float32(1.0)


def to_bytes(images):
    """Images in [-1, 1] as `uint8`."""
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype("uint8")


def to_mask(mask, shape):
    """A mask of images of a shape, as a bool array `(N, H, W, 1)`."""
    mask = np.asarray(mask)
    count, height, width, _ = shape
    if mask.shape not in ((height, width), (count, height, width)):
        raise InputError(
            f"`mask` must have shape ({height}, {width}) or ({count}, {height},"
            f" {width}), True where to draw. Received: {mask.shape}"
        )
    return np.broadcast_to(mask != 0, shape[:3])[..., None]


def to_small_images(images, image_shape):
    """Images to be made larger, as a float32 array in [-1, 1]."""
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


def great_circle(first, second, count):
    """Points on the great circle through two noises, ends included.

    Args:
        first: float array.
        second: float array shaped like it.
        count: int.

    Returns:
        A float32 array of shape `(count, ...)`.

    References:
        - [Shoemake, 1985](https://doi.org/10.1145/325165.325242)
    """
    a, b = (np.asarray(end, "float64") for end in (first, second))
    cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    share = np.linspace(0.0, 1.0, count).reshape(-1, *[1] * a.ndim)
    if np.sin(angle) < 1e-6:  # One direction: the straight line is the circle.
        return ((1.0 - share) * a + share * b).astype("float32")
    points = np.sin((1.0 - share) * angle) * a + np.sin(share * angle) * b
    return (points / np.sin(angle)).astype("float32")
