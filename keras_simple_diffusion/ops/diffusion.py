"""The variance preserving diffusion process, as a function of log-SNR.

Simple diffusion (arXiv:2301.11093), section 2: `z = alpha x + sigma eps` with
`alpha^2 = sigmoid(log_snr)` and `sigma^2 = sigmoid(-log_snr)`. All arithmetic
is float32, whatever the dtype policy.

A network predicts one linear combination `a x + b eps` of clean images and
noise, its prediction space. With the noisy images `z` it makes two equations
for `x` and `eps`, whose determinant is `alpha b - sigma a`. Targets, conversion
between spaces, and the ratio of errors in two spaces follow from `a` and `b`.
"""

import math

from keras import ops

from keras_simple_diffusion.utils.errors import InputError

# For each prediction space the coefficients `(a, b)` of `a x + b eps`, as
# functions of alpha and sigma.
PREDICTION_SPACES = {
    "x": lambda alpha, sigma: (1.0, 0.0),
    "epsilon": lambda alpha, sigma: (0.0, 1.0),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "flow": lambda alpha, sigma: (-1.0, 1.0),
}


def to_float32(x):
    """Convert to a float32 tensor."""
    return ops.convert_to_tensor(x, "float32")


def check_prediction_type(name, value):
    """Raise an `InputError` unless `value` names a prediction space."""
    if not isinstance(value, str) or value not in PREDICTION_SPACES:
        raise InputError(
            f"`{name}` must be one of {tuple(PREDICTION_SPACES)}. "
            f"Received: {name}={value!r}"
        )


def expand_like(values, images):
    """Append axes of size 1 to per-image values, to broadcast over images.

    Args:
        values: float tensor of shape `()`, `(B,)` or `(B, 1, ..., 1)`.
        images: tensor of shape `(B, ...)`.

    Returns:
        `values` with shape `()` or `(B, 1, ..., 1)`.
    """
    if not ops.is_tensor(values):
        values = ops.convert_to_tensor(values, "float32")
    rank = len(values.shape)
    if rank in (0, len(images.shape)):
        return values
    return ops.reshape(values, (-1,) + (1,) * (len(images.shape) - 1))


def alpha_sigma(log_snr):
    """Compute the signal and noise coefficients of noise levels.

    Args:
        log_snr: float tensor of any shape, the log signal-to-noise ratio.

    Returns:
        A tuple `(alpha, sigma)` of float32 tensors shaped like `log_snr`, with
        `alpha^2 + sigma^2 = 1` and `alpha^2 / sigma^2 = exp(log_snr)`.

    Example:
    >>> alpha, sigma = keras_simple_diffusion.ops.alpha_sigma(0.0)
    >>> round(float(alpha), 4), round(float(sigma), 4)
    (0.7071, 0.7071)

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), section 2
    """
    log_snr = to_float32(log_snr)
    return ops.sqrt(ops.sigmoid(log_snr)), ops.sqrt(ops.sigmoid(-log_snr))


def diffuse(images, noise, log_snr):
    """Add noise to images: `z = alpha x + sigma eps`.

    Args:
        images: float tensor of shape `(B, H, W, C)` in `[-1, 1]`.
        noise: float tensor shaped like `images`, standard normal.
        log_snr: float tensor of shape `()` or `(B,)`.

    Returns:
        The noisy images, float32, shaped like `images`.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), section 2
    """
    images, noise = to_float32(images), to_float32(noise)
    alpha, sigma = alpha_sigma(expand_like(log_snr, images))
    return alpha * images + sigma * noise


def make_target(images, noise, log_snr, prediction_type):
    """Compute the target of a network: `a x + b eps`.

    Args:
        images: float tensor of shape `(B, H, W, C)`, clean, in `[-1, 1]`.
        noise: float tensor shaped like `images`, standard normal.
        log_snr: float tensor of shape `()` or `(B,)`.
        prediction_type: string. `"x"`, `"epsilon"`, `"v"` or `"flow"`.

    Returns:
        A float32 tensor shaped like `images`.

    Raises:
        InputError: if `prediction_type` is not a prediction space.

    References:
        - [Salimans & Ho, 2022](https://arxiv.org/abs/2202.00512), appendix D
    """
    check_prediction_type("prediction_type", prediction_type)
    images, noise = to_float32(images), to_float32(noise)
    levels = alpha_sigma(expand_like(log_snr, images))
    a, b = PREDICTION_SPACES[prediction_type](*levels)
    return a * images + b * noise


def convert_prediction(prediction, noisy_images, log_snr, from_type, to_type):
    """Convert a prediction between clean image, noise and velocities.

    All are linear in each other given the noisy images, with
    `v = alpha eps - sigma x` and the velocity of rectified flow,
    `flow = eps - x`. Converting from `"epsilon"` divides by `alpha`
    and amplifies the network's error at the noisy end; converting from `"x"`
    divides by `sigma` and amplifies it at the clean end; converting from
    `"v"` or `"flow"` never does.

    Args:
        prediction: float tensor of shape `(B, H, W, C)`.
        noisy_images: float tensor shaped like `prediction`, the network's
            input `z`.
        log_snr: float tensor of shape `()` or `(B,)`.
        from_type: string. `"x"`, `"epsilon"`, `"v"` or `"flow"`.
        to_type: string. `"x"`, `"epsilon"`, `"v"` or `"flow"`.

    Returns:
        The converted prediction, float32, shaped like `prediction`.

    Raises:
        InputError: if a type is not a prediction space.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), section 2
        - [Salimans & Ho, 2022](https://arxiv.org/abs/2202.00512), appendix D
        - [Liu et al., 2022](https://arxiv.org/abs/2209.03003), for `"flow"`
    """
    check_prediction_type("from_type", from_type)
    check_prediction_type("to_type", to_type)
    prediction, z = to_float32(prediction), to_float32(noisy_images)
    if from_type == to_type:
        return prediction
    alpha, sigma = alpha_sigma(expand_like(log_snr, z))
    from_a, from_b = PREDICTION_SPACES[from_type](alpha, sigma)
    to_a, to_b = PREDICTION_SPACES[to_type](alpha, sigma)
    # Cramer's rule for the two equations z and prediction.
    from_z = to_a * from_b - to_b * from_a
    from_prediction = alpha * to_b - sigma * to_a
    determinant = alpha * from_b - sigma * from_a
    return (from_z * z + from_prediction * prediction) / determinant


def to_flow(noisy_images, log_snr, noise_scale=1.0):
    """Convert noisy images to the state and the time of rectified flow.

    Rectified flow joins clean images and noise by a straight line,
    `(1 - t) x + t n eps` with the noise scale `n`. On this line the log-SNR is
    `2 log((1 - t) / t) - 2 log(n)`, so to each noisy image corresponds one
    state, the same up to a factor. A network that was trained on such states
    receives them, and the time, in place of the noisy images and the log-SNR.
    What it predicts, `x`, `eps` or `eps - x`, needs no conversion.

    Args:
        noisy_images: float tensor of shape `(B, H, W, C)`, of `diffuse`.
        log_snr: float tensor of shape `()` or `(B,)`.
        noise_scale: float. Standard deviation `n` of the noise, positive.
            Defaults to `1.0`.

    Returns:
        A tuple `(state, time)` of float32 tensors: the state, shaped like
        `noisy_images`, and its time, shaped like `log_snr`, which is 0 for
        clean images and 1 for noise. (Where a flow starts from noise at time
        0, its time is `1 - time`.)

    Example:
    >>> noisy_images = np.ones((2, 8, 8, 3))
    >>> state, time = keras_simple_diffusion.ops.to_flow(noisy_images, 0.0)
    >>> float(time)  # Halfway: the state is `0.5 x + 0.5 eps`.
    0.5

    References:
        - [Liu et al., 2022](https://arxiv.org/abs/2209.03003)
        - [Kingma & Gao, 2023](https://arxiv.org/abs/2303.00848), app. D
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720), for noise scales
    """
    noisy_images, log_snr = to_float32(noisy_images), to_float32(log_snr)
    half = 0.5 * log_snr + math.log(noise_scale)
    signal, time = ops.sigmoid(half), ops.sigmoid(-half)
    # alpha^2 + sigma^2 = 1, so the factor is the norm of the coefficients.
    norm = ops.sqrt(ops.square(signal) + ops.square(noise_scale * time))
    return expand_like(norm, noisy_images) * noisy_images, time


def error_scale(log_snr, from_type, to_type):
    """Compute the ratio between the errors of one prediction in two spaces.

    For one network output `|eps_error| = alpha |v_error| = (alpha / sigma)
    |x_error|`. A squared error is converted by the square of this factor.

    Args:
        log_snr: float tensor of any shape.
        from_type: string. `"x"`, `"epsilon"`, `"v"` or `"flow"`.
        to_type: string. `"x"`, `"epsilon"`, `"v"` or `"flow"`.

    Returns:
        A float32 tensor shaped like `log_snr`.

    Raises:
        InputError: if a type is not a prediction space.
    """
    return ops.exp(log_error_scale(log_snr, from_type, to_type))


def log_error_scale(log_snr, from_type, to_type):
    """Compute the logarithm of `error_scale`, at any log-SNR.

    In float32 alpha^2 underflows below a log-SNR of about -87, and sigma^2
    above 87. Their logarithms, computed from log-SNR, stay finite.

    Args:
        log_snr: float tensor of any shape.
        from_type: string. `"x"`, `"epsilon"`, `"v"` or `"flow"`.
        to_type: string. `"x"`, `"epsilon"`, `"v"` or `"flow"`.

    Returns:
        A float32 tensor shaped like `log_snr`.

    Raises:
        InputError: if a type is not a prediction space.
    """
    check_prediction_type("from_type", from_type)
    check_prediction_type("to_type", to_type)
    log_snr = to_float32(log_snr)
    alpha, sigma = alpha_sigma(log_snr)
    log_alpha = 0.5 * ops.log_sigmoid(log_snr)
    log_sigma = 0.5 * ops.log_sigmoid(-log_snr)

    def log_determinant(space):
        # log |alpha b - sigma a|, with the larger magnitude factored out.
        a, b = map(to_float32, PREDICTION_SPACES[space](alpha, sigma))
        first = log_alpha + ops.log(ops.absolute(b))
        second = log_sigma + ops.log(ops.absolute(a))
        largest = ops.maximum(first, second)
        first = ops.sign(b) * ops.exp(first - largest)
        second = ops.sign(a) * ops.exp(second - largest)
        return largest + ops.log(ops.absolute(first - second))

    return log_determinant(to_type) - log_determinant(from_type)


def stratify(uniform, shift):
    """Stratify the times of a batch: one time in each of `B` equal ranges.

    `(0, 1)` is split into `B` ranges, and each time is uniform within its own
    range. The assignment of ranges is rotated at random, so each single time
    is uniform on `(0, 1)`.

    Args:
        uniform: float32 tensor of shape `(B,)`, uniform on `[0, 1)`.
        shift: float32 tensor of shape `(1,)`, uniform on `[0, 1)`.

    Returns:
        A float32 tensor of shape `(B,)`.
    """
    indices = ops.arange(ops.shape(uniform)[0], dtype="float32")
    count = ops.cast(ops.shape(uniform)[0], "float32")
    ranges = ops.mod(indices + ops.floor(shift * count), count)
    return (ranges + uniform) / count


def from_uint8(images):
    """Scale `uint8` images to float32 in `[-1, 1]`.

    Floating-point images must be in `[-1, 1]` already and are only cast.

    Args:
        images: tensor of shape `(B, H, W, C)`, integer in `[0, 255]` or float
            in `[-1, 1]`.

    Returns:
        A float32 tensor of the same shape.
    """
    is_float = "float" in str(images.dtype)
    images = to_float32(images)
    return images if is_float else images / 127.5 - 1.0


def to_uint8(images):
    """Convert images in `[-1, 1]` to `uint8`, with clipping.

    Args:
        images: float tensor of shape `(B, H, W, C)`.

    Returns:
        A `uint8` tensor of the same shape.
    """
    images = (ops.cast(images, "float32") + 1.0) * 127.5
    return ops.cast(ops.clip(ops.round(images), 0, 255), "uint8")
