"""Inception of 2015-12-05: its features, and the Inception Score."""

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.metrics.image_features import ImageFeatures
from keras_simple_diffusion.metrics.inception_weights import load_inception
from keras_simple_diffusion.metrics.resizing import RESIZINGS
from keras_simple_diffusion.metrics.resizing import resize_bilinear
from keras_simple_diffusion.utils.errors import InputError

_SIZE = 299


class InceptionFeatures(ImageFeatures):
    """Features of Inception, which FID, KID and precision are defined with.

    The network is that of 2015-12-05, quirks included. The features of an
    image do not depend on the batch it is part of.

    Args:
        weights: path of the published `.pth` file or of a `.npz` file.
            Defaults to the published one, downloaded once.
        resize: string. How images are resized to 299 pixels: `"original"` as
            in the first FID, by TensorFlow 1, or `"pytorch"` as in
            pytorch-fid. The distances differ by some percent and must not be
            compared with each other. Defaults to `"original"`.
        batch_size: int. Images in one pass. Defaults to `32`.

    Attributes:
        name: string that changes whenever the features do.
        logits_kernel: float32 array of shape `(2048, num_classes)` for
            `inception_score`, or `None` if the file has no logits.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.

    Returns:
        A float32 array of shape `(N, 2048)`.

    Example:
    >>> features = keras_simple_diffusion.metrics.InceptionFeatures()
    >>> features(images).shape
    (16, 2048)

    References:
        - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500)
    """

    def __init__(self, weights=None, resize="original", batch_size=32):
        if resize not in RESIZINGS:
            raise InputError(
                f"`resize` must be one of {RESIZINGS}. Received: "
                f"resize={resize!r}"
            )
        arrays, self.logits_kernel, digest = load_inception(weights)
        self.resize = resize
        self._variables = {
            name: keras.Variable(array, dtype="float32", trainable=False)
            for name, array in arrays.items()
        }
        super().__init__(
            f"inception-{digest[:16]}-{resize}",
            2048,
            batch_size,
            self._compute,
            list(self._variables.values()),
        )

    def _compute(self, images):
        images = resize_bilinear(images, _SIZE, self.resize)
        # Each implementation scales in its own way.
        if self.resize == "original":
            images = (images - 128.0) / 128.0
        else:
            images = images / 127.5 - 1.0
        if images.shape[-1] == 1:
            images = ops.repeat(images, 3, axis=-1)
        return inception(images, self._variables)


def inception(images, weights):
    """Compute the features of Inception.

    Args:
        images: float tensor of shape `(B, 299, 299, 3)` in [-1, 1].
        weights: dict of tensors, `"LAYER/kernel"` and `"LAYER/bias"` with the
            batch normalization folded in.

    Returns:
        A float tensor of shape `(B, 2048)`.

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567)
    """

    def conv(name, x, strides=1, padding="same"):
        x = ops.conv(x, weights[f"{name}/kernel"], strides, padding)
        return ops.relu(x + weights[f"{name}/bias"])

    def chain(block, x, *names):
        for name in names:
            x = conv(f"{block}/{name}", x)
        return x

    x = conv("conv", images, 2, "valid")
    x = conv("conv_1", x, padding="valid")
    x = conv("conv_2", x)
    x = ops.max_pool(x, 3, 2)
    x = conv("conv_3", x)
    x = conv("conv_4", x, padding="valid")
    x = ops.max_pool(x, 3, 2)
    for block in ("mixed", "mixed_1", "mixed_2"):
        x = _join(
            chain(block, x, "conv"),
            chain(block, x, "tower/conv", "tower/conv_1"),
            chain(block, x, *_numbered("tower_1", 3)),
            chain(block, _average(x), "tower_2/conv"),
        )
    tower = chain("mixed_3", x, *_numbered("tower", 2))
    x = _join(
        conv("mixed_3/conv", x, 2, "valid"),
        conv("mixed_3/tower/conv_2", tower, 2, "valid"),
        ops.max_pool(x, 3, 2),
    )
    for block in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
        x = _join(
            chain(block, x, "conv"),
            chain(block, x, *_numbered("tower", 3)),
            chain(block, x, *_numbered("tower_1", 5)),
            chain(block, _average(x), "tower_2/conv"),
        )
    tower = chain("mixed_8", x, "tower/conv")
    tower_1 = chain("mixed_8", x, *_numbered("tower_1", 3))
    x = _join(
        conv("mixed_8/tower/conv_1", tower, 2, "valid"),
        conv("mixed_8/tower_1/conv_3", tower_1, 2, "valid"),
        ops.max_pool(x, 3, 2),
    )
    # The published weights were trained with a maximum in the last block.
    for block, pool in (("mixed_9", _average), ("mixed_10", _maximum)):
        tower = chain(block, x, "tower_conv")
        tower_1 = chain(block, x, "tower_1_conv", "tower_1_conv_1")
        x = _join(
            chain(block, x, "conv"),
            chain(block, tower, "tower_mixed_conv"),
            chain(block, tower, "tower_mixed_conv_1"),
            chain(block, tower_1, "tower_1_mixed_conv"),
            chain(block, tower_1, "tower_1_mixed_conv_1"),
            chain(block, pool(x), "tower_2_conv"),
        )
    return ops.mean(x, axis=(1, 2))


def _numbered(tower, count):
    names = ("conv", "conv_1", "conv_2", "conv_3", "conv_4")
    return [f"{tower}/{name}" for name in names[:count]]


def _join(*branches):
    return ops.concatenate(branches, axis=-1)


def _average(x):
    return ops.average_pool(x, 3, 1, "same")  # Padding is not counted.


def _maximum(x):
    return ops.max_pool(x, 3, 1, "same")


def inception_score(features, kernel, num_splits=10, seed=0):
    """Compute the Inception Score.

    The score is `exp(mean(KL(p(y|x) || p(y))))` with the class probabilities
    `p(y|x)` of an image and their mean `p(y)`. As published, the logits have
    no bias.

    Args:
        features: float array of shape `(N, F)`, or an iterable of batches of
            it that has the length `N`.
        kernel: float array of shape `(F, num_classes)`, of the logits, such as
            `InceptionFeatures.logits_kernel`.
        num_splits: int. Number of random parts of the images, each of which
            gives a score. Defaults to `10`.
        seed: int. Chooses the parts. Defaults to `0`.

    Returns:
        A tuple of floats, the mean over the parts and their standard
        deviation. The mean is in [1, num_classes], and too low if the parts
        have few images.

    References:
        - [Salimans et al., 2016](https://arxiv.org/abs/1606.03498)
    """
    count = len(features)
    if not 1 <= num_splits <= count:
        raise InputError(
            "The Inception Score needs at least one image per part. Received: "
            f"{count} images, num_splits={num_splits}"
        )
    parts = np.random.default_rng(seed).permutation(count) % num_splits
    sums = np.zeros((num_splits, kernel.shape[1]))
    certainty = np.zeros(num_splits)
    start = 0
    for batch in [features] if isinstance(features, np.ndarray) else features:
        logits = batch.astype("float64") @ kernel
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        probabilities = np.exp(logits)
        chosen = parts[start : start + len(batch)]
        np.add.at(sums, chosen, probabilities)
        np.add.at(certainty, chosen, (probabilities * logits).sum(axis=1))
        start += len(batch)
    counts = np.bincount(parts, minlength=num_splits)
    means = sums / counts[:, None]
    logarithms = np.log(np.maximum(means, np.finfo("float64").tiny))
    scores = np.exp(certainty / counts - (means * logarithms).sum(axis=1))
    return float(scores.mean()), float(scores.std())
