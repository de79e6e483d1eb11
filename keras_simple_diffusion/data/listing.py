"""The listing of a dataset on disk: its images, their classes and captions."""

import collections
import hashlib

Listing = collections.namedtuple(
    "Listing",
    "container names labels captions class_names fingerprint left_out",
)
Listing.__doc__ = """The images of one split of a dataset, in order.

Args:
    container: a `Container`, such as a `Folder`, `Zip` or `Packed`.
    names: list of the images' names inside it.
    labels: list of ints, or `None` without classes.
    captions: list with a list of strings for each image, or `None`.
    class_names: list of strings, or `None` without classes.
    fingerprint: string, a digest of names, sizes, labels and captions.
    left_out: dict from reasons to lists of names, all that is not used.
"""


def make_listing(
    container, names, labels, captions, class_names, left_out=None
):
    """Return a `Listing` with its fingerprint.

    Args:
        container: a `Container`.
        names: list of strings.
        labels: list of ints, one per image; all are 0 without classes.
        captions: list of lists of strings, or `None`.
        class_names: list of strings, or `None`.
        left_out: dict, or `None` if nothing is left out.
    """
    digest = hashlib.sha256()
    for index, name in enumerate(names):
        texts = captions[index] if captions else None
        line = (name, container.sizes[name], labels[index], texts)
        digest.update(repr(line).encode())
    return Listing(
        container,
        names,
        labels if class_names else None,
        captions,
        class_names,
        digest.hexdigest()[:16],
        left_out or {},
    )
