"""Splits of a dataset, recognized by the names of folders or of TFDS."""

import re

from keras_simple_diffusion.utils.errors import InputError

# Spellings of each role, the preferred ones first. Letter case, digits,
# separators and the words of `_FILLERS` are ignored: `Train`, `train2017`,
# `training_set` and `images-train` are all "train".
_ROLES = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst", "holdout", "heldout"),
    "validation": (
        *("val", "valid", "validation", "validate"),
        *("eval", "evaluation", "dev", "devel", "development"),
    ),
}
_SPELLINGS = {
    spelling: role for role, names in _ROLES.items() for spelling in names
}
HELD_OUT = {"test", "validation"}  # Roles.
_FILLERS = ("dataset", "data", "set", "images", "imgs", "photos", "split")


class MissingSplitError(InputError):
    """The data has no such split."""


def role_of(name):
    """Return the role of a split's name.

    Args:
        name: string, such as `"Train"`, `"val2017"` or `"held-out"`.

    Returns:
        `"train"`, `"test"`, `"validation"`, or `None` for any other name.
    """
    return _SPELLINGS.get(_spelling(name))


def roles_within(name):
    """Return the roles that words of a name stand for, as in `trainA`."""
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    return {role_of(word) for word in words} - {None}


def matching_splits(split, names):
    """Find the splits that a request stands for.

    Args:
        split: string. The name of a split, or a spelling of its role.
            `"test"` also stands for the validation split, where the data has
            no other held-out one.
        names: iterable of the splits' names.

    Returns:
        A list of names, the best match first.
    """
    role = role_of(split)
    roles = ["test", "validation"] if role == "test" else [role]
    order = [spelling for each in roles for spelling in _ROLES.get(each, ())]
    similar = [
        name
        for name in sorted(names)
        if name != split and role_of(name) and role_of(name) in roles
    ]
    similar.sort(key=lambda name: order.index(_spelling(name)))
    return [split] * (split in names) + similar


def _spelling(name):
    if set(name) & set("[]%:+"):  # A part or a sum of splits, as TFDS has them.
        return ""
    letters = re.sub(r"[\W\d_]+", "", name.casefold())
    for filler in _FILLERS:
        shorter = letters.removesuffix(filler).removeprefix(filler)
        letters = shorter or letters
    return letters
