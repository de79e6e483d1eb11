import numpy as np

from keras_simple_diffusion.utils.errors import InputError


def inception_score(features, kernel, num_splits=10, seed=0):
    """Inception Score: how sure of a class, and how varied over classes.

    `exp` of the mean divergence of a picture's class probabilities from those
    of all pictures. As published, the logits have no offset.

    Args:
        features: float array of shape `(N, F)`, or an iterable of batches of
            it that has the length `N`.
        kernel: float array of shape `(F, num_classes)`, of the logits, such as
            `InceptionFeatures.logits_kernel`.
        num_splits: int. Parts that the pictures are split into at random; each
            gives a score. Defaults to `10`.
        seed: int. Chooses the parts. Defaults to `0`.

    Returns:
        A tuple of the mean over the parts and their standard deviation,
        floats. The mean is between 1 and the number of classes, and too low
        where a part has few pictures.

    References:
        - [Salimans et al., 2016](https://arxiv.org/abs/1606.03498)
    """
    count = len(features)
    if not 1 <= num_splits <= count:
        raise InputError(
            "The Inception Score needs at least one picture a part. Received: "
            f"{count} pictures, num_splits={num_splits}"
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
