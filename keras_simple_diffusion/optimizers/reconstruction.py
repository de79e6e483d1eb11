"""Reconstruction of weight averages that were not tracked during training.

A run that keeps snapshots of a few averages at a few times allows other
averages of its weights to be computed afterwards. Every average is a sum over
the weights after each update, with known shares. The shares of the target are
approximated by a linear combination of the snapshots' shares, in least squares,
and the same combination of the snapshots' arrays approximates the target.

An average is described here by a pair of an `AverageProfile` and the number of
updates that it covers.

References:
    - [Karras et al., 2023](https://arxiv.org/abs/2312.02696), section 3.2
"""

import numpy as np

# Relative eigenvalue cutoff of the pseudo-inverse. Smaller eigenvalues would
# amplify rounding errors of the stored arrays.
_CUTOFF = 1e-12

# Number of updates whose shares are held in memory at a time.
_BLOCK = 1 << 17


def shares(profile, first, last, num_updates):
    """Compute the shares of updates `first` to `last` in an average.

    Args:
        profile: an `AverageProfile`.
        first: int, at least 1.
        last: int, at most `num_updates`.
        num_updates: int. Number of updates that the average covers.

    Returns:
        A float64 NumPy array.
    """
    logs = profile.log_retention(np.arange(first - 1, last + 1))
    retained = np.exp(profile.log_retention(num_updates) - logs[1:])
    return retained * -np.expm1(np.diff(logs))


def coefficients(snapshots, target):
    """Find the linear combination of snapshots nearest to another average.

    The coefficients sum to one, so that constant weights are exact.

    Args:
        snapshots: list of pairs of an `AverageProfile` and a number of
            updates.
        target: such a pair, the average to reconstruct.

    Returns:
        A tuple of a float64 NumPy array, one coefficient per snapshot, and the
        relative distance of the combined shares from the target's. A value
        near 1 means that the target cannot be reconstructed, because it is
        much narrower than the tracked profiles, or far from every snapshot.
    """
    gram = _gram_matrix([*snapshots, target])
    lengths = np.sqrt(np.diag(gram))
    gram = gram / np.outer(lengths, lengths)
    wanted, gram = gram[:-1, -1], gram[:-1, :-1]
    # The coefficients sum to one if `scaled @ length_ratios` is one: a
    # particular solution, and least squares in the directions that keep it.
    length_ratios = lengths[-1] / lengths[:-1]
    start = length_ratios / (length_ratios @ length_ratios)
    free = np.eye(len(start)) - np.outer(start, length_ratios)
    inverse = np.linalg.pinv(free @ gram @ free, _CUTOFF, hermitian=True)
    scaled = start + free @ inverse @ free @ (wanted - gram @ start)
    squared = scaled @ gram @ scaled - 2.0 * scaled @ wanted + 1.0
    return scaled * length_ratios, float(np.sqrt(max(squared, 0.0)))


def combine(arrays, coefficients):
    """Compute a linear combination of the arrays of snapshots.

    Args:
        arrays: iterable of dicts from names to arrays, one per snapshot. Only
            one snapshot of an iterator is held in memory.
        coefficients: array, one coefficient per snapshot.

    Returns:
        A dict from names to NumPy arrays in the snapshots' precision.
    """
    totals, dtypes = {}, {}
    for snapshot, coefficient in zip(arrays, coefficients, strict=True):
        for name, array in snapshot.items():
            array = np.asarray(array)
            dtypes[name] = array.dtype
            share = coefficient * array.astype("float64")
            totals[name] = totals[name] + share if name in totals else share
    return {name: total.astype(dtypes[name]) for name, total in totals.items()}


def _gram_matrix(averages):
    """Compute the inner products of the shares of averages."""
    profiles = list(dict.fromkeys(profile for profile, _ in averages))
    kinds = [profiles.index(profile) for profile, _ in averages]
    counts = np.array([count for _, count in averages])
    products = _running_products(profiles, counts)
    logs = np.stack([profile.log_retention(counts) for profile in profiles])
    gram = np.empty((len(averages), len(averages)))
    for i in range(len(averages)):
        for j in range(i + 1):
            # Later updates only scale the shares of earlier ones, by the
            # retention since then.
            early, late = (i, j) if counts[i] <= counts[j] else (j, i)
            log = logs[kinds[late]]
            retained = np.exp(log[late] - log[early])
            product = products[counts[early]][kinds[i], kinds[j]]
            gram[i, j] = gram[j, i] = retained * product
    return gram


def _running_products(profiles, counts):
    """Compute the inner products of profiles at equal times, block by block."""
    ends = np.arange(_BLOCK, counts.max(), _BLOCK)
    products, total, start = {}, 0.0, 0
    for end in sorted({*counts.tolist(), *ends.tolist()}):
        logs = np.stack([p.log_retention([start, end]) for p in profiles])
        retained = np.exp(logs[:, 1] - logs[:, 0])
        block = np.stack([shares(p, start + 1, end, end) for p in profiles])
        total = np.outer(retained, retained) * total + block @ block.T
        products[end] = total
        start = end
    return products
