"""Checks of the values of images and labels, outside of compiled code."""

import warnings

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

# Images are the result of float arithmetic: they may exceed 1 by rounding.
LARGEST_VALUE = 1.001


class UnusualDataWarning(UserWarning):
    """Valid values that are probably a mistake."""


def check_images(images):
    """Check the range of images, `uint8` or floating point.

    Args:
        images: array of shape `(N, H, W, C)`.

    Raises:
        InputError: if there are none, or they are out of range.
    """
    if not images.size:
        raise no_images()
    low, high = float(images.min()), float(images.max())
    limits = (0, 255)
    if is_float(images):
        limits = (-LARGEST_VALUE, LARGEST_VALUE)
    if images.dtype == "bool" or not (limits[0] <= low and high <= limits[1]):
        raise InputError(
            "Images must be uint8 in [0, 255], or float in [-1, 1]. "
            f"Received: {images.dtype} in [{low:.4g}, {high:.4g}]. Divide "
            "by 127.5 and subtract 1, or pass uint8."
        )
    if low >= 0.0 and 0.0 < high <= 1.0:
        warnings.warn(
            f"The images are {images.dtype} in [0, 1], which is a half of the "
            "expected range [-1, 1] of floats, or nearly black as uint8 in "
            "[0, 255]. Pass 2 * images - 1 if they are in [0, 1].",
            UnusualDataWarning,
            stacklevel=2,
        )


def is_float(array):
    """Tell if an array is of a float type, bfloat16 included."""
    return "float" in str(array.dtype)


def no_images():
    """Return the `InputError` for data without images."""
    return InputError(
        "The data are empty: there are no images. Received: 0 images."
    )


def check_labels(labels, num_classes):
    """Raise an `InputError` unless labels are integers in [0, num_classes].

    Label `num_classes` is the null label, which stands for no class.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InputError(
            "Labels must be a list or vector of integers. Received: dtype "
            f"{labels.dtype} and shape {labels.shape}"
        )
    outside = labels[(labels < 0) | (labels > num_classes)]
    if len(outside):
        raise InputError(
            f"Labels must be in [0, {num_classes - 1}], or {num_classes} for "
            f"no class. Received: {outside[0]}"
        )


def warn_of_labels_from_one(labels, num_classes):
    """Warn of labels that use the null label in place of the first class.

    Args:
        labels: int array of shape `(N,)`.
        num_classes: int.
    """
    if num_classes in labels and 0 not in labels and len(labels) > num_classes:
        warnings.warn(
            f"No label is 0 and some are {num_classes}, which stands for no "
            f"class. Labels of {num_classes} classes count from 0: subtract 1 "
            "if these count from 1.",
            UnusualDataWarning,
            stacklevel=2,
        )
