"""What `fit` and `evaluate` accept, and the errors when it does not fit."""

import numpy as np

from keras_simple_diffusion.utils.errors import InputError


def split_inputs(inputs, backbone):
    """Take a batch or a data set apart.

    Args:
        inputs: dict with `"images"` and, for a class-conditional backbone,
            `"labels"`, or the images alone.
        backbone: a `DiffusionBackbone`.

    Returns:
        A tuple of the images and a dict of the `"labels"`, empty for an
        unconditional backbone.

    Raises:
        InputError: if they do not fit the backbone.
    """
    if not isinstance(inputs, dict):
        inputs = {"images": inputs}
    _check_keys(inputs)
    images, labels = inputs["images"], inputs.get("labels")
    check_shape(images, backbone)
    if backbone.num_classes is None and labels is not None:
        raise InputError(
            "The backbone is unconditional, yet the data has labels. Leave "
            "'labels' out, or build the backbone with `num_classes`."
        )
    if backbone.num_classes is not None and labels is None:
        raise InputError(
            f"The backbone has {backbone.num_classes} classes, yet the data "
            "has no labels. Pass {'images': ..., 'labels': ...}, or build the "
            "backbone with num_classes=None."
        )
    if labels is not None and len(labels.shape) != 1:
        raise InputError(
            "Labels must be a vector of integers, one a picture. Received: "
            f"labels of shape {tuple(labels.shape)}"
        )
    return images, {} if labels is None else {"labels": labels}


def check_shape(images, backbone):
    """Raise an `InputError` unless a batch has the network's shape."""
    if tuple(images.shape[1:]) != backbone.image_shape:
        raise InputError(
            f"The backbone takes pictures of shape {backbone.image_shape} "
            "(height, width, channels). Received: a batch of shape "
            f"{tuple(images.shape)}. Resize the pictures, or build the "
            f"backbone with image_shape={tuple(images.shape[1:])}."
        )


def check_arrays(inputs, backbone):
    """Check values that can only be read outside of a compiled step.

    Args:
        inputs: what `fit` received as `x`. Only NumPy arrays are looked at.
        backbone: a `DiffusionBackbone`.

    Raises:
        InputError: if pictures or labels are out of range.
    """
    if isinstance(inputs, dict):
        _check_keys(inputs)
        if isinstance(inputs.get("labels"), (list, tuple)):
            inputs = {**inputs, "labels": np.asarray(inputs["labels"])}
    else:
        inputs = {"images": inputs}
    if not all(isinstance(leaf, np.ndarray) for leaf in inputs.values()):
        return
    images, conditions = split_inputs(inputs, backbone)
    labels = conditions.get("labels")
    if labels is not None:
        if len(labels) != len(images):
            raise InputError(
                "There must be one label a picture. Received: "
                f"{len(images)} pictures and {len(labels)} labels"
            )
        check_labels(labels, backbone.num_classes)
    check_images(images)


def check_images(images):
    """Raise an `InputError` unless a NumPy array has values of pictures."""
    if not len(images):
        return
    low, high = float(images.min()), float(images.max())
    limits = (0, 255)
    if np.issubdtype(images.dtype, np.floating):
        limits = (-1.001, 1.001)
    if not (limits[0] <= low and high <= limits[1]):
        raise InputError(
            "Pictures must be uint8 in [0, 255], or float in [-1, 1]. "
            f"Received: {images.dtype} in [{low:.4g}, {high:.4g}]. Divide "
            "by 127.5 and subtract 1, or pass uint8."
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


def _check_keys(inputs):
    if "images" not in inputs or not set(inputs) <= {"images", "labels"}:
        raise InputError(
            "Training data must be images, or a dict with 'images' and, for a "
            "class-conditional model, 'labels'. Received: a dict with "
            f"{sorted(inputs)}"
        )
