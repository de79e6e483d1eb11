"""Conditions under which images are drawn, and labels as numbers."""

import dataclasses
import difflib

import numpy as np

from keras_simple_diffusion.generation.values import check_labels
from keras_simple_diffusion.utils.errors import InputError

_MAX_NAMES = 20  # Classes in an error message.


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of a number of images, as inputs of the network.

    Args:
        count: int. Number of images.
        given: dict of arrays with `count` rows, the inputs of the network
            beside noisy images and log-SNR. Empty for an unconditional model.
        null: dict like `given`, for the unconditional half of guidance.
        weak: dict like `given`, for a guidance model that is given. Defaults to
            `None`: the model's own one has `null`.
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

    def spread(self, num_images):
        """Use one condition for all images, or one for each.

        Args:
            num_images: int.

        Returns:
            The `Conditions` of `num_images` images.

        Raises:
            InputError: if there is another number of conditions.
        """
        if self.count == 1:
            return self.take([0] * num_images)
        if self.count != num_images:
            raise InputError(
                "There must be one condition for all images or for each. "
                f"Received: num_images={num_images} and {self.count} "
                "conditions"
            )
        return self

    def at_scale(self, guidance_scale):
        """Give the network a guidance scale as an input.

        Args:
            guidance_scale: float.

        Returns:
            `Conditions`.
        """
        scales = np.full(self.count, guidance_scale, "float32")
        given = {**self.given, "guidance_scale": scales}
        return dataclasses.replace(self, given=given)

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
    if label in (class_names or []):
        return class_names.index(label)
    if not class_names:
        hint = "Its classes have no names; pass numbers."
    else:
        lower = {name.casefold(): name for name in class_names}
        close = difflib.get_close_matches(label.casefold(), lower, n=3)
        hint = "Its classes: " + ", ".join(class_names[:_MAX_NAMES])
        if len(class_names) > _MAX_NAMES:
            hint += f" and {len(class_names) - _MAX_NAMES} more"
        if close:
            hint = f"Did you mean {' or '.join(lower[n] for n in close)}?"
    raise InputError(f"The model has no class named '{label}'. {hint}")
