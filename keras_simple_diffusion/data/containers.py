"""Files of folders and zips, by plain names and with bounds on reads."""

import os
import pathlib
import posixpath
import re
import stat
import threading
import unicodedata
import zipfile

from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.utils.errors import InputError

_MAX_BYTES = 2**29  # Of one file.
_HEAD = 64  # Bytes that tell formats apart.
# Other methods are decompressed by Python without a bound.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Folders and files that operating systems and file servers leave behind,
# beside all whose names begin with a dot.
_SYSTEM = {
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recycle",
    "@tmp",
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "lost+found",
    "network trash folder",
    "recycler",
    "system volume information",
    "temporary items",
    "thumbs.db",
}
HIDDEN = "hidden, or of the system"


def open_container(path):
    """Open a folder or zip.

    Args:
        path: path of a folder or of a `.zip` file.

    Returns:
        A `Folder` or `Zip`.
    """
    place = pathlib.Path(path)
    if str(path) and place.is_dir():
        return Folder(place)
    if place.is_file():
        return Zip(place)
    raise InputError(f"There is no folder or zip file at '{path}'.")


def read_file(path, count=None):
    """Read a regular file of at most 512 MiB, or its first bytes.

    Args:
        path: path of the file.
        count: int or `None` for all of it. Defaults to `None`.

    Returns:
        The content, as bytes.

    Raises:
        OSError: if it is too large, or a pipe or device.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if count is None:
            check_size(status.st_size)
            count = status.st_size
        return file.read(count)


def plain_path(name):
    """Return the plain form of a path inside a container.

    Plain paths have `/` between folders, are relative to the container, have
    no `.`, `..` or empty parts, and are in Unicode's composed form (NFC).

    Args:
        name: string, such as `"photos\\\\cats\\\\1.png"` or `"./cats//1.png"`.

    Returns:
        A string, or `None` if the path is empty or leads out of the container.
    """
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    name = re.sub(r"^[A-Za-z]:/", "", name).lstrip("/")
    path = posixpath.normpath(name)
    return None if path.split("/")[0] in (".", "..") else path


def is_hidden(name):
    """Return whether a plain path is hidden, or part of the system."""
    return any(
        part.startswith((".", "~$", "__MACOSX")) or part.casefold() in _SYSTEM
        for part in name.split("/")
    )


class Container:
    """Base class of folders and zips.

    Attributes:
        path: path of the folder or zip.
        sizes: dict from plain paths of files to their sizes in bytes.
        folders: set of plain paths of folders.
        left_out: dict from names of what is not in `sizes` to the reasons.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.sizes = {}
        self.folders = set()
        self.left_out = {}
        self._raw_names = {}  # The container's own, where they differ.

    def stamp(self, name):
        """Return a number that changes if a file is replaced or removed."""
        raise NotImplementedError

    def read(self, name):
        """Return the content of a file, as bytes."""
        raise NotImplementedError

    def head(self, name):
        """Return the first bytes of a file, or none if it is unreadable."""
        raise NotImplementedError

    def _add(self, raw, path, size):
        """List a file that the container itself calls `raw`."""
        plain = plain_path(path)
        if plain is None:
            self.left_out[raw] = "its path leads out of the data"
        elif is_hidden(plain):
            self.left_out[raw] = HIDDEN
        elif plain in self.sizes:
            self.left_out[raw] = "another file has the same name"
            if self._raw(plain) == raw:  # Of a zip, which holds it twice.
                self.sizes[plain] = size
        else:
            self.sizes[plain] = size
            if plain != raw:
                self._raw_names[plain] = raw

    def _raw(self, plain):
        return self._raw_names.get(plain, plain)


class Folder(Container):
    """The regular files of a folder and of the folders inside it.

    Links to folders are followed, but each real folder is listed once.

    Args:
        path: path of the folder.
    """

    def __init__(self, path):
        super().__init__(path)
        seen, folders, links = set(), [("", str(self.path))], []
        while folders or links:
            if folders:
                inside, place = folders.pop()
            else:  # Real folders first, so that links are the ones left out.
                links.sort()
                inside, place = links.pop(0)
                if self._leads_back(place):
                    self.left_out[inside] = "a link to a folder around the data"
                    continue
            try:
                status = os.stat(place)
                with os.scandir(place) as found:
                    entries = sorted(found, key=lambda each: each.name)
            except OSError as error:
                reason = f"a folder not opened: {error.strerror}"
                self.left_out[inside or "."] = reason
                continue
            if (status.st_dev, status.st_ino) in seen:
                self.left_out[inside] = "a link to a folder that is listed"
                continue
            seen.add((status.st_dev, status.st_ino))
            if inside:
                self.folders.add(plain_path(inside))
            for entry in entries:
                name = posixpath.join(inside, entry.name)
                try:
                    status = entry.stat()
                except OSError:  # A link to nowhere, or deleted meanwhile.
                    self._add(name, name, 0)
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    if stat.S_ISREG(status.st_mode):
                        self._add(name, name, status.st_size)
                    else:
                        self.left_out[name] = "not a regular file"
                elif is_hidden(entry.name):
                    self.left_out[name] = HIDDEN
                elif entry.is_symlink():
                    links.append((name, entry.path))
                else:
                    folders.append((name, entry.path))

    def _leads_back(self, place):
        target, root = os.path.realpath(place), os.path.realpath(self.path)
        return os.path.commonpath([target, root]) == target

    def stamp(self, name):
        try:
            return os.stat(self.path / self._raw(name)).st_mtime_ns
        except OSError:  # A link to nowhere, or deleted meanwhile.
            return 0

    def read(self, name):
        try:
            return read_file(self.path / self._raw(name))
        except OSError as error:
            if not self.path.is_dir():
                raise gone("folder", self.path) from error
            raise

    def head(self, name):
        try:
            return read_file(self.path / self._raw(name), _HEAD)
        except OSError:
            return b""


class Zip(Container):
    """The files of a zip.

    It can be sent to other processes, each of which opens it for itself.

    Args:
        path: path of the zip.
    """

    def __init__(self, path):
        super().__init__(path)
        self._opened = None
        file, _ = self._open()
        for info in file.infolist():
            name, path = info.filename, _decoded(info)
            if path.endswith(("/", "\\")):
                self.folders.add(plain_path(path))
            elif stat.S_ISLNK(info.external_attr >> 16):
                self.left_out[name] = "a link"
            elif info.flag_bits & 1:
                self.left_out[name] = "encrypted"
            elif info.compress_type not in _METHODS:
                self.left_out[name] = "not compressed by deflate"
            else:
                self._add(name, path, info.file_size)
        for name in self.sizes:
            self.folders.update(map(str, pathlib.PurePosixPath(name).parents))
        self.folders -= {".", None}

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def stamp(self, name):
        file, _ = self._open()
        return file.getinfo(self._raw(name)).CRC

    def read(self, name):
        return self._read(name)

    def head(self, name):
        try:
            return self._read(name, _HEAD)
        except UNREADABLE:
            return b""

    def _read(self, name, count=None):
        file, lock = self._open()
        info = file.getinfo(self._raw(name))
        if count is None:
            check_size(info.file_size)
            count = info.file_size + 1
        # With a count no more is decompressed than that; a file that holds
        # more than its directory says fails the checksum.
        with lock, file.open(info) as member:
            return member.read(count)

    def _open(self):
        # A process that was forked must not share the position in the file.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                file = zipfile.ZipFile(self.path)
            except FileNotFoundError as error:
                raise gone("zip file", self.path) from error
            except UNREADABLE as error:
                raise InputError(
                    f"'{self.path}' is not a readable zip file: {error}."
                ) from error
            self._opened = (os.getpid(), file, threading.Lock())
        return self._opened[1:]


def _open_at_once(path, flags):
    # A file may have been replaced by a pipe, which would block.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _decoded(info):
    """Return the path of a zip's member.

    macOS stores UTF-8 without saying so; zipfile reads it as code page 437.
    """
    if not info.flag_bits & 0x800:
        try:
            return info.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return info.filename


def check_size(size):
    """Raise an `OSError` if a file has more than 512 MiB."""
    if size > _MAX_BYTES:
        raise OSError(
            f"it has {size / 2**20:,.0f} MiB, more than the "
            f"{_MAX_BYTES // 2**20} MiB that a file may have"
        )


def gone(kind, path):
    """Return the error of data that are gone since they were opened."""
    return InputError(
        f"The {kind} '{path}' is gone since it was opened. Put it back, and "
        "resume from the last checkpoint."
    )
