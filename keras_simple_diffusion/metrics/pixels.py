"""Pixels of small copies of images, as features."""

import numpy as np

from keras_simple_diffusion.metrics.resizing import cubic_matrix

_MAX_SIZE = 32


class PixelFeatures:
    """Pixels of images of at most 32 pixels, to be compared as features.

    The distance of two is the root mean square difference of their pixels, in
    grey levels.

    Attributes:
        name: string.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`.

    Returns:
        A float32 array of shape `(N, F)`.
    """

    name = f"pixels-{_MAX_SIZE}"

    def __call__(self, images):
        sides = images.shape[1:3]
        scale = min(1.0, _MAX_SIZE / max(sides))
        down, across = (
            cubic_matrix(side, max(1, round(side * scale))) for side in sides
        )
        images = np.asarray(images, "float32")
        if scale < 1.0:
            images = np.einsum("ih,bhwc->biwc", down, images, optimize=True)
            images = np.einsum("jw,biwc->bijc", across, images, optimize=True)
        rows = images.reshape(len(images), -1)
        return rows / np.float32(np.sqrt(rows.shape[1]))
