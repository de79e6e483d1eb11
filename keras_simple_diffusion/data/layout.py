"""From the paths of images to their splits and classes."""

import collections
import re

from keras_simple_diffusion.data.splits import HELD_OUT
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.splits import matching_splits
from keras_simple_diffusion.data.splits import role_of
from keras_simple_diffusion.data.splits import roles_within
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import printable
from keras_simple_diffusion.utils.user_text import some_of


class Layout:
    """The meaning of folders: splits, and the classes inside of them.

    The outermost folders are classes, or splits if their names say so. A
    single enclosing folder is ignored.

    Args:
        path: path of the data, for errors.
        images: list of the images' names.
        unread: list of names of images that are not read, whose folders are
            not ignored.

    Attributes:
        class_names: list of strings, or `None` without classes.
        stray: list of images beside the folders of the splits.
    """

    def __init__(self, path, images, unread):
        self._path = path
        self._prefix = _common_folders(images, unread)
        parts = {name: self._inside(name) for name in images}
        folders = {part[0] for part in parts.values() if len(part) > 1}
        self._splits = {name for name in folders if role_of(name)}
        self._check_splits(images, folders - self._splits)
        self.stray = []
        if self._splits:
            self.stray = [name for name in images if len(parts[name]) == 1]
        self._split_of = {
            name: part[0] if self._splits else None
            for name, part in parts.items()
            if not self._splits or len(part) > 1
        }
        self._inner = []
        if self._splits:
            cut = ["/".join(parts[name][1:]) for name in self._split_of]
            self._inner = _common_folders(cut, [])
        self._class_of = {name: self._class(name) for name in self._split_of}
        names = sorted(set(self._class_of.values()), key=_order)
        if "" in names and len(names) > 1:
            outside = [n for n, each in self._class_of.items() if not each]
            raise InputError(
                f"'{path}' holds images both inside and outside of class "
                f"folders, outside {some_of(outside, 3)}. Move them into class "
                "folders, or all images out of them."
            )
        self._numbers = {name: number for number, name in enumerate(names)}
        self._folders = names
        self.class_names = None
        if names != [""]:
            self.class_names = [printable(name) for name in names]

    def take(self, split):
        """Return the names of the images of a split."""
        if not self._splits:
            if split != "train":
                raise MissingSplitError(
                    f"'{self._path}' has no splits, so no '{split}' either. "
                    "Expected outermost folders such as train and test."
                )
            return list(self._split_of)
        matching = matching_splits(split, self._splits)
        if not matching:
            raise MissingSplitError(
                f"'{self._path}' has no split '{split}'. It has: "
                f"{', '.join(sorted(self._splits))}"
            )
        if role_of(split) == "train" and len(matching) > 1:
            raise InputError(
                f"'{self._path}' has several splits to train on: "
                f"{', '.join(matching)}. Join them, or move all but one away."
            )
        taken = matching[0]
        return [name for name, each in self._split_of.items() if each == taken]

    def unused(self, split):
        """Return the images of splits that nothing is made of.

        Args:
            split: string, the split that is opened.

        Returns:
            A dict from names of splits to lists of names of images.
        """
        used = [
            matching_splits(each, self._splits)[:1]
            for each in (split, "train", "test")
        ]
        unused = collections.defaultdict(list)
        for name, each in self._split_of.items():
            if self._splits and [each] not in used:
                unused[each].append(name)
        return unused

    def remarks(self, images, split):
        """Describe what about the folders may not be meant.

        Args:
            images: list of names of images, those of the split.
            split: string, the split that is opened.

        Returns:
            A list of sentences.
        """
        remarks = [] if self._splits else self._missed_splits(images)
        if self.class_names is None:
            return remarks
        folders = self._folders
        found = {self._class_of[name] for name in images}
        missing = [name for name in folders if name not in found]
        if missing and role_of(split) == "train":
            remarks.append(
                f"{len(missing)} of {len(folders)} classes have no images to "
                f"train on: {some_of(missing, 3)}."
            )
        similar = collections.defaultdict(list)
        for name in folders:
            similar[" ".join(name.casefold().split())].append(name)
        for names in similar.values():
            if len(names) > 1:
                remarks.append(
                    f"The classes '{printable(names[0])}' and "
                    f"'{printable(names[1])}' differ in letter case or spaces "
                    "only. If they are one, join their folders."
                )
        numbers = [_number(name) for name in folders]
        if None not in numbers and numbers != [*range(len(folders))]:
            remarks.append(
                "The names of the classes are numbers, but not those of the "
                f"labels: label 0 is the class '{folders[0]}', and label "
                f"{len(folders) - 1} is '{folders[-1]}'."
            )
        return remarks

    def labels(self, names):
        """Return the numbers of the images' classes."""
        return [self._numbers[self._class_of[name]] for name in names]

    def empty_classes(self, names):
        """Return the folders of files which would be classes of their own."""
        if self.class_names is None:
            return []
        classes = {self._class(name) for name in names if self._inside(name)}
        return sorted(classes - {*self._folders, "", None})

    def _inside(self, name):
        """Return the parts of a path inside the ignored folders."""
        parts, count = name.split("/"), len(self._prefix)
        return parts[count:] if parts[:count] == self._prefix else []

    def _class(self, name):
        parts = self._inside(name)
        if self._splits:
            if len(parts) < 2 or parts[0] not in self._splits:
                return None
            parts, count = parts[1:], len(self._inner)
            parts = parts[count:] if parts[:count] == self._inner else []
        return parts[0] if len(parts) > 1 else ""

    def _check_splits(self, images, others):
        if self._splits and others:
            split, other = min(self._splits), printable(min(others))
            raise InputError(
                f"'{self._path}' has the splits "
                f"{some_of(sorted(self._splits))} beside "
                f"{some_of(sorted(others))}. Move '{other}' away or into a "
                f"split, or rename '{split}' if it is a class."
            )
        if self._splits:
            return
        roles = collections.defaultdict(set)
        for name in images:
            parts = name.split("/")[:-1]
            for depth, part in enumerate(parts):
                roles["/".join(parts[:depth])].add(role_of(part))
        for parent, found in roles.items():
            if "train" in found and found & HELD_OUT:
                raise InputError(
                    f"'{self._path}' has splits inside of "
                    f"'{printable(parent)}'. Expected them outermost, with the "
                    "classes inside."
                )

    def _missed_splits(self, images):
        """Describe names that speak of splits where there are none."""
        inside = [self._inside(name) for name in images]
        groups = (
            {parts[0] for parts in inside if len(parts) > 1},
            # Such as train_001.png.
            {
                found[1]
                for parts in inside
                if (found := re.match(r"([a-zA-Z]+)[\W_]*\d", parts[-1]))
            },
        )
        for kind, names in zip(("folders", "files"), groups, strict=True):
            roles = {name: roles_within(name) for name in sorted(names)}
            train = [name for name in roles if "train" in roles[name]]
            test = [name for name in roles if roles[name] & HELD_OUT]
            if train and test and train != test:
                return [
                    f"The {kind} called '{printable(train[0])}' and "
                    f"'{printable(test[0])}' are all trained on. If they are "
                    "splits, put them into folders called train and test."
                ]
        held_out = {
            "/".join(parts[: depth + 1])
            for parts in inside
            for depth, part in enumerate(parts[:-1])
            if role_of(part) in HELD_OUT
        }
        if held_out:
            return [
                f"Images in {some_of(sorted(held_out), 3)} are trained on. If "
                "they are to be held out, put them into a folder called test "
                "beside one called train, with the classes inside."
            ]
        return []


def _number(name):
    return int(name) if re.fullmatch("[0-9]{1,18}", name) else None


def _order(name):
    """Return the key to sort classes by: numbers by value, then the names."""
    number = _number(name)
    return (number is None, number or 0, name)


def _common_folders(names, others):
    """Return the folders around all names, up to the first split.

    A folder beside another one that has only files which are not read stays,
    since both could be classes.
    """
    parts = [name.split("/") for name in names]
    others = [name.split("/") for name in others]
    prefix = []
    while len({part[0] for part in parts}) == 1 and len(parts[0]) > 1:
        folder = parts[0][0]
        if role_of(folder):
            break
        if any(len(part) > 1 and part[0] != folder for part in others):
            break
        prefix.append(folder)
        parts = [part[1:] for part in parts]
        others = [part[1:] for part in others if part[0] == folder]
    return prefix
