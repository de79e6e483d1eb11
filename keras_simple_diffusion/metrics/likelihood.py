"""Bound of the likelihood of images under a model."""

import dataclasses
import math

import numpy as np
from keras import ops

from keras_simple_diffusion.backend.compilation import fori_loop
from keras_simple_diffusion.generation import arguments
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.utils.errors import InputError

_GOLDEN_RATIO = 0.5 * (math.sqrt(5.0) - 1.0)


@dataclasses.dataclass(frozen=True)
class LikelihoodBound:
    """Bits per dimension of images, the sum of three terms.

    Attributes:
        prior: float64 array of shape `(N,)`, the divergence of the noisiest
            images from the standard normal distribution.
        diffusion: float64 array of shape `(N,)`, the error of the network.
        reconstruction: float, the cost from the cleanest noise level to
            `uint8` values. It depends on the schedule alone.
        bits: float64 array of shape `(N,)`, the sum of the terms.
        mean: float, the mean of `bits`.
        standard_error: float, the standard error of `mean`, of at least 2
            images.
    """

    prior: np.ndarray
    diffusion: np.ndarray
    reconstruction: float

    @property
    def bits(self):
        return self.prior + self.diffusion + self.reconstruction

    @property
    def mean(self):
        return float(self.bits.mean())

    @property
    def standard_error(self):
        return float(self.bits.std(ddof=1) / math.sqrt(len(self.bits)))


def bits_per_dimension(
    model,
    images,
    labels=None,
    num_times=32,
    seed=0,
    batch_size=64,
    indices=None,
):
    """Compute an upper bound of the negative log-likelihood of images.

    It is the variational bound of the continuous-time model over the whole
    range of its schedule, with the averaged weights and without guidance.

    Uniform noise `u` in [0, 1) dequantizes the levels `k` of an image,
    `x = (k + u - 1/2) / 127.5 - 1`. The probability of the image is at least
    `exp(E[log p(x)])` times the volume `127.5^-D` of its cell, and

    ```
    bits = E[prior + diffusion + reconstruction] / (D log 2) + log2(127.5)
    prior = KL(q(z_1 | x) || N(0, 1))
    diffusion = 1/2 E[-(d log_snr / dt) |eps - eps_hat|^2]
    reconstruction = E[-log N(x; z_0 / alpha_0, (sigma_0 / alpha_0)^2)]
    ```

    The diffusion term is an integral over log-SNR, so log-SNRs are drawn
    uniformly and stratified: `num_times` per image, one in each of as many
    equal ranges. The reconstruction term is the same for all images.

    A model trained on undequantized images predicts level centres, so the
    added `u` counts as error. The bound is then loose, most of all where the
    level is certain, as in a background that is always black.

    Args:
        model: a `keras_simple_diffusion.models.DiffusionModel`.
        images: `uint8` array of shape `(N, H, W, C)`.
        labels: list of ints or class names, one per image. Required if the
            model has classes; label `num_classes` is the null label.
        num_times: int. Evaluations of the network per image. Defaults to `32`.
        seed: int. The random numbers of image `i` depend on the seed and `i`
            alone. Defaults to `0`.
        batch_size: int. Defaults to `64`.
        indices: list of ints, the numbers `i` of the images in a larger set.
            Defaults to `0, 1, ...`.

    Returns:
        A `LikelihoodBound`.

    Raises:
        InputError: if images or labels do not fit the model.

    Example:
    >>> bound = keras_simple_diffusion.metrics.bits_per_dimension(
    ...     model, images, labels)
    >>> bound.mean, bound.standard_error

    References:
        - [Kingma et al., 2021](https://arxiv.org/abs/2107.00630), sec. 3.5, 5
        - [Theis et al., 2016](https://arxiv.org/abs/1511.01844), sec. 3.1
    """
    images = np.asarray(images)
    shape = model.backbone.image_shape
    if images.dtype != "uint8" or images.shape != (len(images), *shape):
        raise InputError(
            f"Images must be uint8 of shape (N, {', '.join(map(str, shape))})"
            f". Received: {images.dtype} of shape {images.shape}"
        )
    if min(len(images), num_times, batch_size) < 1:
        raise InputError(
            "The number of images, `num_times` and `batch_size` must be at "
            f"least 1. Received: {len(images)} images, num_times={num_times}, "
            f"batch_size={batch_size}"
        )
    options = arguments.SamplingOptions()
    inputs = model.find_conditions(options, len(images), labels).given
    seed = arguments.to_seed(seed)
    high, low = ops.convert_to_numpy(model.schedule([0.0, 1.0])).tolist()
    numbers = arguments.to_indices(indices, len(images))
    # Offsets of the golden ratio are evenly spread over any set of images.
    first = np.random.default_rng(seed % 2**64).random()
    offsets = ((first + _GOLDEN_RATIO * numbers) % 1.0).astype("float32")
    rows = {
        "images": images,
        "inputs": inputs,
        "numbers": numbers,
        "offsets": offsets,
    }
    shared = {
        "key": ops.convert_to_tensor(random.seed_to_key(seed), "int32"),
        "ends": ops.convert_to_tensor([high, low], "float32"),
        "num_times": ops.convert_to_tensor(num_times, "int32"),
    }
    program = _BoundProgram(Network(model.backbone, model.prediction_type))
    prior, diffusion = model.run_program(program, rows, shared, batch_size)
    nats = 0.5 * (math.log(2.0 * math.pi * math.e) - high)
    return LikelihoodBound(
        prior.astype("float64") / math.log(2.0),
        diffusion.astype("float64") / math.log(2.0),
        nats / math.log(2.0) + math.log2(127.5),
    )


@dataclasses.dataclass(frozen=True)
class _BoundProgram:
    """The prior and the diffusion term of a batch of images.

    Args:
        network: a `Network`.

    Call arguments:
        rows: dict with `"images"`, `uint8` `(B, H, W, C)`; `"inputs"`, a
            dict of the network's inputs; `"numbers"`, int32 `(B,)`, the
            images' numbers; `"offsets"`, float32 `(B,)`, the place of the
            log-SNR within each range.
        shared: dict with `"key"`, int32 `(2,)`; `"ends"`, float32 `(2,)`, the
            highest and the lowest log-SNR; `"num_times"`, int32 scalar.

    Returns:
        A tuple of float32 tensors of shape `(B,)`, both terms in nats per
        dimension.
    """

    network: Network

    @property
    def variables(self):
        """The variables that the program reads."""
        return self.network.backbone.variables

    def __call__(self, rows, shared):
        offsets, num_times = rows["offsets"], shared["num_times"]
        keys = random.image_keys(shared["key"], rows["numbers"])
        shape = self.network.backbone.image_shape
        levels = ops.cast(rows["images"], "float32") - 0.5
        high, low = shared["ends"][0], shared["ends"][1]
        weight = 1.0 / ops.cast(num_times, "float32")

        def add_time(index, state):
            prior, diffusion, last_error = state
            noise = random.normal(keys, 2 * index, shape)
            uniform = random.uniform(keys, 2 * index + 1, shape)
            clean = (levels + uniform) / 127.5 - 1.0
            # Antithetic offsets: alternate ranges use 1 - offset, which
            # cancels most of the first-order variance.
            place = ops.absolute(ops.cast(index % 2, "float32") - offsets)
            share = (ops.cast(index, "float32") + place) * weight
            log_snr = high + (low - high) * share
            noisy = diffuse(clean, noise, log_snr)
            prediction = self.network.predict(noisy, log_snr, rows["inputs"])
            epsilon = self.network.convert(
                prediction, noisy, log_snr, "epsilon"
            )
            error = _mean(ops.square(noise - epsilon))
            # Control variate: mean(noise^2) - 1 has zero mean and correlates
            # with the error. For Gaussian data, noise - epsilon contains the
            # noise times the expected error, so its square contains noise^2
            # times the square of that error. The error of the previous range
            # estimates it.
            part = ops.square(ops.minimum(last_error, 1.0))
            certain = error - part * (_mean(ops.square(noise)) - 1.0)
            return (
                prior + _prior(clean, low) * weight,
                diffusion + 0.5 * (high - low) * certain * weight,
                error,
            )

        zeros = ops.zeros_like(offsets)
        state = (zeros, zeros, zeros + 1.0)
        prior, diffusion, _ = fori_loop(0, num_times, add_time, state)
        return prior, diffusion


def _prior(clean, log_snr):
    """KL divergence of the noisiest images from N(0, 1), per dimension."""
    alpha, _ = alpha_sigma(log_snr)
    # sigma^2 - 1 = -alpha^2, and -log sigma^2 = softplus(log_snr).
    square = ops.square(alpha) * (_mean(ops.square(clean)) - 1.0)
    return 0.5 * (square + ops.softplus(log_snr))


def _mean(values):
    return ops.mean(values, axis=(1, 2, 3))
