"""Conditions under which images are drawn, and the labels that make them."""

import dataclasses
import re

import numpy as np

from keras_simple_diffusion.utils.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of a number of images, as inputs of the network.

    Args:
        count: int. Number of images.
        given: dict of arrays with `count` rows, the inputs of the network
            beside noisy images and log-SNR. Empty for an unconditional model.
        null: dict like `given`, for the unconditional half of guidance.
        weak: dict like `given`, for the guidance model. Defaults to `given`.
        is_single: bool. Whether a single image is returned without its batch
            axis. Defaults to `False`.
        is_portrait: bool. Whether the images are portraits, which the network
            sees turned on their side. Defaults to `False`.
    """

    count: int
    given: dict = dataclasses.field(default_factory=dict)
    null: dict = dataclasses.field(default_factory=dict)
    weak: dict | None = None
    is_single: bool = False
    is_portrait: bool = False

    def take(self, rows):
        """Select some of the images.

        Args:
            rows: list of ints.

        Returns:
            The `Conditions` of these.
        """
        given, null, weak = (
            each and {name: np.asarray(v)[rows] for name, v in each.items()}
            for each in (self.given, self.null, self.weak)
        )
        return dataclasses.replace(
            self,
            count=len(rows),
            given=given,
            null=null,
            weak=weak,
            is_single=False,
        )

    def receive(self, images):
        """Turn images of shape `(N, H, W, C)` as the network sees them."""
        if self.is_portrait:
            images = np.rot90(images, 1, axes=(-3, -2))
        return images

    def present(self, images):
        """Turn drawn images upright, and drop the batch axis of a single one.

        Args:
            images: array of shape `(N, H, W, C)` or `(N, steps, H, W, C)`.

        Returns:
            An array.
        """
        if self.is_portrait:
            images = np.rot90(images, -1, axes=(-3, -2))
        return images[0] if self.is_single else images


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


def check_list_of_labels(labels):
    """Raise an `InputError` for one label where a list is expected."""
    if labels is not None and (
        isinstance(labels, str) or not hasattr(labels, "__len__")
    ):
        raise InputError(
            "`labels` must be a list, one per image, such as [3, 3]. Received: "
            f"labels={labels!r}"
        )


def find_labels(labels, num_classes, class_names):
    """Convert labels and class names to class numbers.

    Args:
        labels: list of ints and class names, or `None`.
        num_classes: int, or `None` for an unconditional model.
        class_names: list of strings or `None`.

    Returns:
        An int32 array, or `None` for an unconditional model.

    Raises:
        InputError: if labels are missing, unexpected, or no classes.
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


def _number_of(label, class_names):
    if not isinstance(label, str):
        return label
    if label not in (class_names or []):
        raise InputError(
            f"The model has no class named '{label}'. "
            + (
                f"Its classes: {', '.join(class_names)}"
                if class_names
                else "Its classes have no names; pass numbers."
            )
        )
    return class_names.index(label)


def choose_labels(task, labels, num_images=None):
    """Choose one label per image, repeating the given ones in turn.

    Args:
        task: a `DiffusionModel`.
        labels: string of numbers and class names separated by commas, or
            `None` for all classes.
        num_images: int or `None` for one image a label, 16 without classes.

    Returns:
        A tuple of the number of images and the list of labels, `None` for an
        unconditional model.

    Raises:
        InputError: if the model has no such classes.
    """
    num_classes = task.backbone.num_classes
    chosen = None
    if labels is not None:
        names = task.class_names or []
        chosen = [_find_label(part, names) for part in _split(labels, names)]
    elif num_classes is not None:
        chosen = list(range(num_classes))
    find_labels(chosen, num_classes, task.class_names)  # It checks them.
    if num_images is None:
        num_images = 16 if chosen is None else len(chosen)
    if chosen is not None:
        chosen = [chosen[i % len(chosen)] for i in range(num_images)]
    return num_images, chosen


def _split(text, class_names):
    """Split at commas, except those inside of a class name."""
    parts, rest = [], text
    while rest is not None:
        for text in (rest, rest.lstrip()):
            names = [n for n in class_names if f"{text},".startswith(f"{n},")]
            if names:
                break
        part = max(names, key=len, default=text.partition(",")[0])
        parts.append(part)
        after = text[len(part) :]
        rest = after[1:] if after else None
    return parts


def _find_label(text, class_names):
    if text in class_names:
        return text
    text = text.strip()
    return int(text) if re.fullmatch("-?[0-9]+", text) else text


def caption_labels(task, labels):
    """Name labels for a sheet: class names, or numbers where there are none.

    Args:
        task: a `DiffusionModel`.
        labels: list of ints and class names, or `None`.

    Returns:
        A list of strings, or `None`.
    """
    return labels and [_caption(task, label) for label in labels]


def _caption(task, label):
    if isinstance(label, str):
        return label
    if label == task.backbone.num_classes:
        return "(none)"
    names = task.class_names or ()
    return names[label] if 0 <= label < len(names) else str(label)
