"""What `generate` is asked for, and the errors when it cannot be."""

import numpy as np

from keras_simple_diffusion.models.sampling_program import CLIPPINGS
from keras_simple_diffusion.models.training_data import check_labels
from keras_simple_diffusion.utils.errors import InputError


def find_labels(labels, num_classes, class_names):
    """Class numbers of the pictures to draw.

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
            f"The model has {num_classes} classes: pass `labels`, one a "
            f"picture, each in [0, {num_classes - 1}], or {num_classes} for no "
            "class."
        )
    numbers = [_number_of(label, class_names) for label in labels]
    if numbers:
        check_labels(numbers, num_classes)
    return np.array(numbers, "int32")


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
    """The number of pictures, from their labels if it is not given."""
    if num_images is None:
        num_images = 1 if labels is None else len(labels)
    if num_images < 1 or (labels is not None and len(labels) != num_images):
        raise InputError(
            "`num_images` must be at least 1, and there must be one label a "
            f"picture. Received: num_images={num_images} and "
            f"{'no' if labels is None else len(labels)} labels"
        )
    return num_images


def check_guidance(guidance_scale, num_classes):
    """Raise an `InputError` for guidance of an unconditional model."""
    if guidance_scale != 1.0 and num_classes is None:
        raise InputError(
            "Guidance needs a conditional model, and this one is "
            f"unconditional. Received: guidance_scale={guidance_scale}"
        )


def check_guidance_model(guidance_model, backbone):
    """Raise an `InputError` unless the weaker model draws such pictures."""
    other = guidance_model.backbone
    for name in ("image_shape", "num_classes"):
        ours, theirs = getattr(backbone, name), getattr(other, name)
        if ours != theirs:
            raise InputError(
                f"`guidance_model` must have the {name} of the model, {ours}. "
                f"Received: a model with {name}={theirs}"
            )


def check_guidance_options(interval, rescale):
    """Raise an `InputError` for an empty interval, or too much rescaling."""
    if interval is not None:
        if len(interval) != 2 or not interval[0] < interval[1]:
            raise InputError(
                "`guidance_interval` must be two increasing log-SNRs. "
                f"Received: guidance_interval={tuple(interval)}"
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


def to_noise(noise, num_images, image_shape):
    """The noise as a float32 array of the pictures' shape, or `None`."""
    if noise is None:
        return None
    shape = (num_images, *image_shape)
    if tuple(noise.shape) != shape:
        raise InputError(
            f"`noise` must have shape {shape}. Received: {tuple(noise.shape)}"
        )
    return np.asarray(noise, "float32")


def to_indices(indices, num_images):
    """The pictures' numbers as an int32 array."""
    if indices is None:
        return np.arange(num_images, dtype="int32")
    indices = np.asarray(indices)
    if indices.shape != (num_images,) or (indices < 0).any():
        raise InputError(
            f"`indices` must be {num_images} numbers of at least 0, one a "
            f"picture. Received: shape {indices.shape}"
        )
    return indices.astype("int32")


def count_skipped(strength, num_steps):
    """How many steps of the grid an edit of that strength leaves out."""
    if not 0.0 <= strength <= 1.0:
        raise InputError(
            f"`strength` must be in [0, 1]. Received: strength={strength}"
        )
    return round((1.0 - strength) * num_steps)


def to_pictures(images, image_shape):
    """Given pictures as a float32 array in [-1, 1]."""
    images = np.asarray(images)
    if images.shape[1:] != tuple(image_shape) or images.ndim != 4:
        raise InputError(
            f"Pictures must have shape (N, {', '.join(map(str, image_shape))})"
            f". Received: {images.shape}"
        )
    return _to_float(images)


def _to_float(images):
    if np.issubdtype(images.dtype, np.floating):
        if images.size and np.abs(images).max() > 1.001:
            raise InputError(
                "Pictures must be uint8 in [0, 255], or float in [-1, 1]. "
                f"Received: {images.dtype} in [{images.min():.4g}, "
                f"{images.max():.4g}]"
            )
        return images.astype("float32")
    return images.astype("float32") / np.float32(127.5) - np.float32(1.0)


def to_bytes(images):
    """Pictures in [-1, 1] as `uint8`."""
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype("uint8")


def to_mask(mask, shape):
    """A mask of pictures of a shape, as a bool array `(N, H, W, 1)`."""
    mask = np.asarray(mask)
    count, height, width, _ = shape
    if mask.shape not in ((height, width), (count, height, width)):
        raise InputError(
            f"`mask` must have shape ({height}, {width}) or ({count}, {height},"
            f" {width}), True where to draw. Received: {mask.shape}"
        )
    return np.broadcast_to(mask != 0, shape[:3])[..., None]


def to_small_pictures(images, image_shape):
    """Pictures to be made larger, as a float32 array in [-1, 1]."""
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
        f"The model draws pictures of {height} x {width} x {channels}; small "
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
