"""The variance preserving diffusion process, as a function of log-SNR.

Simple diffusion (arXiv:2301.11093), section 2: `z = alpha x + sigma eps` with
`alpha^2 = sigmoid(log_snr)` and `sigma^2 = sigmoid(-log_snr)`. All arithmetic
is float32, whatever the dtype policy.
"""

from keras import ops

PREDICTION_TYPES = ("x", "epsilon", "v")


def _float32(x):
    return ops.cast(ops.convert_to_tensor(x), "float32")


def check_prediction_type(name, value):
    """Raise a `ValueError` unless `value` is one of `PREDICTION_TYPES`."""
    if value not in PREDICTION_TYPES:
        raise ValueError(
            f"`{name}` must be one of {PREDICTION_TYPES}. "
            f"Received: {name}={value!r}"
        )


def expand_like(values, images):
    """Give per-image values trailing axes of size 1, to match images.

    Args:
        values: float tensor of shape `()` or `(B,)`, or one that has the
            rank of `images` already.
        images: tensor of shape `(B, ...)`.

    Returns:
        `values` with shape `()` or `(B, 1, ..., 1)`.
    """
    values = ops.convert_to_tensor(values)
    rank = len(values.shape)
    if rank in (0, len(images.shape)):
        return values
    return ops.reshape(values, (-1,) + (1,) * (len(images.shape) - 1))


def alpha_sigma(log_snr):
    """Signal and noise coefficients at a noise level.

    Args:
        log_snr: float tensor of any shape, the log signal-to-noise ratio.

    Returns:
        A tuple `(alpha, sigma)` of float32 tensors shaped like `log_snr`, with
        `alpha^2 + sigma^2 = 1` and `alpha^2 / sigma^2 = exp(log_snr)`.

    Example:
    >>> alpha, sigma = keras_simple_diffusion.ops.alpha_sigma(0.0)

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), section 2
    """
    log_snr = _float32(log_snr)
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
    images, noise = _float32(images), _float32(noise)
    alpha, sigma = alpha_sigma(expand_like(log_snr, images))
    return alpha * images + sigma * noise


def convert_prediction(prediction, noisy_images, log_snr, from_type, to_type):
    """Convert a prediction between clean image, noise and velocity.

    The three are linear in each other given the noisy images, with
    `v = alpha eps - sigma x`. Converting from `"epsilon"` divides by `alpha`,
    and from `"x"` by `sigma`: it magnifies the network's error at the noisy
    and at the clean end respectively, which `v` never does.

    Args:
        prediction: float tensor of shape `(B, H, W, C)`.
        noisy_images: float tensor shaped like `prediction`, the network's
            input `z`.
        log_snr: float tensor of shape `()` or `(B,)`.
        from_type: string. `"x"`, `"epsilon"` or `"v"`.
        to_type: string. `"x"`, `"epsilon"` or `"v"`.

    Returns:
        The converted prediction, float32, shaped like `prediction`.

    Raises:
        ValueError: if a type is not one of the three.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), section 2
        - [Salimans & Ho, 2022](https://arxiv.org/abs/2202.00512), appendix D
    """
    check_prediction_type("from_type", from_type)
    check_prediction_type("to_type", to_type)
    prediction, z = _float32(prediction), _float32(noisy_images)
    if from_type == to_type:
        return prediction
    alpha, sigma = alpha_sigma(expand_like(log_snr, z))
    if from_type == "v":
        if to_type == "x":
            return alpha * z - sigma * prediction
        return sigma * z + alpha * prediction
    if from_type == "epsilon":
        if to_type == "x":
            return (z - sigma * prediction) / alpha
        return (prediction - sigma * z) / alpha
    if to_type == "epsilon":
        return (z - alpha * prediction) / sigma
    return (alpha * z - prediction) / sigma


def error_scale(log_snr, from_type, to_type):
    """Factor between the size of one error measured in two spaces.

    For one network output, `eps_error = alpha v_error = (alpha / sigma)
    x_error` up to sign, so a squared error changes space by the square of
    this factor.

    Args:
        log_snr: float tensor of any shape.
        from_type: string. `"x"`, `"epsilon"` or `"v"`.
        to_type: string. `"x"`, `"epsilon"` or `"v"`.

    Returns:
        A float32 tensor shaped like `log_snr`.
    """
    check_prediction_type("from_type", from_type)
    check_prediction_type("to_type", to_type)
    alpha, sigma = alpha_sigma(log_snr)
    per_v = {"v": ops.ones_like(alpha), "epsilon": alpha, "x": sigma}
    return per_v[to_type] / per_v[from_type]


def stratify(uniform, shift):
    """Spread times evenly over the noise levels, one to a range of its own.

    `(0, 1)` is split into as many ranges as there are times, and each time
    falls at random within one of them. Which range comes first is random too,
    so that every time on its own is uniform on `(0, 1)`.

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

    Images that are floating point already are taken to be in `[-1, 1]` and
    only cast.

    Args:
        images: tensor of shape `(B, H, W, C)`, integer in `[0, 255]` or float
            in `[-1, 1]`.

    Returns:
        A float32 tensor of the same shape.
    """
    images = ops.convert_to_tensor(images)
    if "float" in str(images.dtype):
        return ops.cast(images, "float32")
    return ops.cast(images, "float32") / 127.5 - 1.0


def to_uint8(images):
    """Round images in `[-1, 1]` to `uint8`, clipping what lies outside.

    Args:
        images: float tensor of shape `(B, H, W, C)`.

    Returns:
        A `uint8` tensor of the same shape.
    """
    images = (ops.cast(images, "float32") + 1.0) * 127.5
    return ops.cast(ops.clip(ops.round(images), 0, 255), "uint8")
