"""What `generate` is asked for, and the errors when it cannot be."""

import numpy as np

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


def check_noise(noise, num_images, image_shape):
    """Raise an `InputError` unless the noise has the shape of the pictures."""
    shape = (num_images, *image_shape)
    if noise is not None and tuple(noise.shape) != shape:
        raise InputError(
            f"`noise` must have shape {shape}. Received: {tuple(noise.shape)}"
        )
