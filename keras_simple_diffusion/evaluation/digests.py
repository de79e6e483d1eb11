import hashlib

import numpy as np


def picture_digests(pictures):
    """The SHA-256 of each picture's bytes.

    Args:
        pictures: `uint8` array of shape `(N, H, W, C)`.

    Returns:
        A `uint8` array of shape `(N, 32)`.
    """
    digests = b"".join(hashlib.sha256(p.tobytes()).digest() for p in pictures)
    return np.frombuffer(digests, "uint8").reshape(len(pictures), 32)


def digest_of(arrays):
    """One SHA-256 of several arrays in order, as a hexadecimal string."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
