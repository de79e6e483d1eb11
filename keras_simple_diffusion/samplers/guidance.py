from keras import ops


def classifier_free_guidance(conditional, unconditional, guidance_scale):
    """Extrapolate from the unconditional to the conditional prediction.

    Eq. 7 of the paper, whose `1 + eta` is `guidance_scale`. The result is the
    same in every prediction space, because the spaces are affine in each
    other. With a weaker model's prediction in place of the unconditional one
    this is autoguidance.

    Args:
        conditional: float tensor, the prediction with the condition.
        unconditional: float tensor shaped like `conditional`, the prediction
            without it.
        guidance_scale: float or scalar tensor. 1 gives the conditional
            prediction, 0 the unconditional one.

    Returns:
        The guided prediction, a float tensor of the same shape.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), eq. 7
        - [Ho & Salimans, 2022](https://arxiv.org/abs/2207.12598)
        - [Karras et al., 2024](https://arxiv.org/abs/2406.02507)
    """
    return unconditional + guidance_scale * (conditional - unconditional)


def rescale_guidance(guided, conditional, share):
    """Reduce the contrast that guidance adds.

    Each guided prediction is scaled towards the standard deviation of the
    conditional prediction of the same image. It is applied in the network's
    prediction space; unlike guidance, the result depends on that space.

    Args:
        guided: float tensor of shape `(B, H, W, C)`.
        conditional: float tensor shaped like it.
        share: float or scalar tensor in `[0, 1]`. 0 changes nothing, 1
            restores the standard deviation of `conditional`.

    Returns:
        A float tensor of the same shape.

    References:
        - [Lin et al., 2023](https://arxiv.org/abs/2305.08891), eq. 15, 16
    """
    guided = ops.convert_to_tensor(guided)
    axes = (1, 2, 3)
    wanted = ops.std(conditional, axis=axes, keepdims=True)
    actual = ops.std(guided, axis=axes, keepdims=True)
    return guided * (1.0 + share * (wanted / ops.maximum(actual, 1e-8) - 1.0))


def clip_static(clean_images):
    """Clip predicted clean images to `[-1, 1]`."""
    return ops.clip(clean_images, -1.0, 1.0)


def clip_dynamic(clean_images, percentile=0.995):
    """Clip predicted clean images to a range per image, and rescale to 1.

    The limit is the given quantile of the absolute values of the image, and
    at least 1. With strong guidance it keeps contrast where static clipping
    saturates.

    Args:
        clean_images: float tensor of shape `(B, H, W, C)`.
        percentile: float in `(0, 1]`, the quantile. Defaults to `0.995`.

    Returns:
        A float tensor of the same shape, in `[-1, 1]`.

    References:
        - [Saharia et al., 2022](https://arxiv.org/abs/2205.11487), sec. 2.3
    """
    size = clean_images.shape[1] * clean_images.shape[2] * clean_images.shape[3]
    values = ops.reshape(ops.absolute(clean_images), (-1, size))
    limit = ops.quantile(values, percentile, axis=1)
    limit = ops.reshape(ops.maximum(limit, 1.0), (-1, 1, 1, 1))
    return ops.clip(clean_images, -limit, limit) / limit
