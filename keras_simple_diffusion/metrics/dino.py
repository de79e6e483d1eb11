"""Features of DINOv2."""

import keras_hub
import numpy as np
from keras import ops

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.metrics.image_features import ImageFeatures
from keras_simple_diffusion.metrics.image_features import load_network
from keras_simple_diffusion.metrics.image_features import weights_digest
from keras_simple_diffusion.metrics.resizing import cubic_kernel
from keras_simple_diffusion.metrics.resizing import cubic_matrix
from keras_simple_diffusion.metrics.resizing import normalize_images
from keras_simple_diffusion.metrics.resizing import resize_cubic

_SIZE = 224
# Mean and deviation of the images of ImageNet.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class DINOFeatures(ImageFeatures):
    """Features of DINOv2, whose Fréchet distance agrees with human judgement.

    The features are the class token after the last normalization, of images
    resized to 224 pixels. Unlike Inception, DINOv2 was trained without labels.

    Args:
        preset: string. The name of a preset of
            `keras_hub.models.DINOV2Backbone`, downloaded once, a preset folder
            or a handle. Defaults to `"dinov2_large"`, which published
            distances are based on.
        batch_size: int. Images in one pass. Defaults to `32`.

    Attributes:
        name: string that changes whenever the features do.
        size: int. Number of features of an image.
        batch_size: int. Images in one pass.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.

    Returns:
        A float32 array of shape `(N, size)`.

    Example:
    >>> features = keras_simple_diffusion.metrics.DINOFeatures()
    >>> features(images).shape
    (16, 1024)

    References:
        - [Oquab et al., 2023](https://arxiv.org/abs/2304.07193)
        - [Stein et al., 2023](https://arxiv.org/abs/2306.04675)
    """

    def __init__(self, preset="dinov2_large", batch_size=32):
        self._backbone = load_network(
            keras_hub.models.DINOV2Backbone,
            preset,
            image_shape=(_SIZE, _SIZE, 3),
        )
        _resize_positions(self._backbone)
        super().__init__(
            f"dinov2-{weights_digest(self._backbone)}-cubic-{_SIZE}",
            self._backbone.hidden_dim,
            batch_size,
            self._compute,
            self._backbone.variables,
        )

    def _compute(self, images):
        images = resize_cubic(images, _SIZE)
        images = normalize_images(images, _MEAN, _DEVIATION)
        tokens = self._backbone({"images": images}, training=False)
        return tokens[:, 0]


def _resize_positions(backbone):
    """Resize the position embeddings as DINOv2 itself does.

    They were learned at 518 pixels. keras_hub resizes them with Keras, whose
    result depends on the backend.
    """
    learned, resized, antialias = keras_internals.dino_positions(backbone)
    positions = ops.convert_to_numpy(learned)
    count = round((positions.shape[1] - 1) ** 0.5)
    new_count = _SIZE // backbone.patch_size
    if antialias:
        matrix = cubic_matrix(count, new_count)
    else:
        matrix = position_matrix(count, new_count)
    grid = positions[0, 1:].reshape(count, count, -1)
    grid = np.einsum("ih,jw,hwf->ijf", matrix, matrix, grid)
    grid = grid.reshape(1, new_count**2, -1)
    resized.assign(np.concatenate([positions[:, :1], grid], axis=1))


def position_matrix(count, new_count):
    """Compute the matrix that resizes one axis of the position embeddings.

    Args:
        count: int.
        new_count: int.

    Returns:
        A float32 array of shape `(new_count, count)`.
    """
    if count == new_count:
        return np.eye(count, dtype="float32")
    # DINOv2 adds 0.1 to the size (its `interpolate_offset`), and was trained
    # with the resulting scale.
    scale = count / (new_count + 0.1)
    centres = (np.arange(new_count) + 0.5) * scale - 0.5
    taps = np.floor(centres).astype("int64")[:, None] + np.arange(-1, 3)
    shares = cubic_kernel(taps - centres[:, None], -0.75)
    matrix = np.zeros((new_count, count))
    rows = np.arange(new_count)[:, None]
    np.add.at(matrix, (rows, taps.clip(0, count - 1)), shares)
    return matrix.astype("float32")
