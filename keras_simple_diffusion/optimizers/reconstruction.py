"""Averages that were never tracked, from snapshots of those that were.

A run that keeps snapshots of a few averages at a few times can have any other
average of its weights afterwards. All of them are sums over the weights after
each update, with known shares. So the shares of the wanted average are
approximated by a combination of the snapshots' shares, in least squares, and
the same combination of the snapshots' arrays approximates the average.

What is said of a snapshot here is a pair of an `AverageProfile` and the number
of updates that it has seen.
"""

import numpy as np

# Directions in which the snapshots' shares, scaled to length one, differ by
# less than this part of the largest squared are left out: rounding of the
# arrays would be blown up along them.
_CUTOFF = 1e-12

# So many updates are held in memory at a time.
_BLOCK = 1 << 17


def shares(profile, first, last, num_updates):
    """Shares of the weights after updates `first` to `last` in an average.

    Args:
        profile: an `AverageProfile`.
        first: int, at least 1.
        last: int, at most `num_updates`.
        num_updates: int. Number of updates that the average has seen.

    Returns:
        A float64 NumPy array.
    """
    logs = profile.log_retention(np.arange(first - 1, last + 1))
    retained = np.exp(profile.log_retention(num_updates) - logs[1:])
    return retained * -np.expm1(np.diff(logs))


def coefficients(snapshots, target):
    """Find the combination of snapshots that is nearest to another average.

    The coefficients sum to one, so that weights which never moved stay exact.

    Args:
        snapshots: list of pairs of an `AverageProfile` and a number of
            updates.
        target: such a pair, the average that is wanted.

    Returns:
        A tuple of a float64 NumPy array, one coefficient a snapshot, and the
        distance of the combined shares from the wanted ones, relative to the
        length of these. Where it is near 1 the average cannot be had: it is
        shorter than those that were tracked, or of a time too far from them.
    """
    gram = _gram_matrix([*snapshots, target])
    lengths = np.sqrt(np.diag(gram))
    gram = gram / np.outer(lengths, lengths)
    wanted, gram = gram[:-1, -1], gram[:-1, :-1]
    # Scaled coefficients sum to one if their product with `ones` is one.
    ones = lengths[-1] / lengths[:-1]
    start = ones / (ones @ ones)
    free = np.eye(len(ones)) - np.outer(start, ones)
    inverse = np.linalg.pinv(free @ gram @ free, _CUTOFF, hermitian=True)
    scaled = start + free @ inverse @ free @ (wanted - gram @ start)
    squared = scaled @ gram @ scaled - 2.0 * scaled @ wanted + 1.0
    return scaled * ones, float(np.sqrt(max(squared, 0.0)))


def combine(arrays, coefficients):
    """Combine the arrays of snapshots.

    Args:
        arrays: iterable of dicts from names to arrays, one a snapshot. Of an
            iterator one snapshot is in memory at a time.
        coefficients: array, one coefficient a snapshot.

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
    """Inner products of the shares of averages."""
    profiles = list(dict.fromkeys(profile for profile, _ in averages))
    kinds = [profiles.index(profile) for profile, _ in averages]
    counts = np.array([count for _, count in averages])
    products = _running_products(profiles, counts)
    logs = np.stack([profile.log_retention(counts) for profile in profiles])
    gram = np.empty((len(averages), len(averages)))
    for i in range(len(averages)):
        for j in range(i + 1):
            # Up to the earlier time the later one's shares are what they were
            # then, times what is retained since.
            early, late = (i, j) if counts[i] <= counts[j] else (j, i)
            log = logs[kinds[late]]
            retained = np.exp(log[late] - log[early])
            product = products[counts[early]][kinds[i], kinds[j]]
            gram[i, j] = gram[j, i] = retained * product
    return gram


def _running_products(profiles, counts):
    """Inner products of profiles at the same time, for each of the times."""
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
