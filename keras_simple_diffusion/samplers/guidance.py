def classifier_free_guidance(conditional, unconditional, guidance_scale):
    """Extrapolate from the unconditional to the conditional prediction.

    Eq. 7 of the paper, whose `1 + eta` is `guidance_scale`. It holds for
    predictions of epsilon, v or x alike, which are affine in each other.

    Args:
        conditional: float tensor, the prediction with the condition.
        unconditional: float tensor shaped like it, the one without.
        guidance_scale: float or scalar tensor. 1 is the conditional
            prediction itself, 0 the unconditional one.

    Returns:
        The guided prediction, a float tensor of the same shape.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), eq. 7
        - [Ho & Salimans, 2022](https://arxiv.org/abs/2207.12598)
    """
    return unconditional + guidance_scale * (conditional - unconditional)
