"""Files of tars, such as those of WebDataset, in any order."""

import os
import pathlib
import posixpath
import tarfile
import threading

from keras_simple_diffusion.data.containers import Container
from keras_simple_diffusion.data.containers import check_size
from keras_simple_diffusion.data.containers import gone
from keras_simple_diffusion.data.shards import find_shards
from keras_simple_diffusion.data.shards import names_of_shards
from keras_simple_diffusion.data.shards import splits_of_shards
from keras_simple_diffusion.utils.errors import InputError

SUFFIX = ".tar"


class Tars(Container):
    """The files of one or several tars that are not compressed.

    A tar has no directory: all of it is searched for names when it is opened,
    without reading the files. If there are several, the file `cats/1.png` of
    `a.tar` is called `cats/a:1.png`, so that equal names in two tars are two
    files; and `train/cats/a-train:1.png` if names of tars say their split. If
    the tars are in several folders, that of `x/a.tar` is `cats/x:a:1.png`.

    Args:
        path: see `find_shards`.
    """

    def __init__(self, path):
        super().__init__(path)
        self._files = find_shards(path, SUFFIX)
        self._opened = {}
        self._lock = threading.Lock()
        self._places = {}
        splits = splits_of_shards(self._files)
        names = names_of_shards(self._files)
        for number, (name, split) in enumerate(zip(names, splits, strict=True)):
            self._list(name, number, split)
        for name in self.sizes:
            self.folders.update(map(str, pathlib.PurePosixPath(name).parents))
        self.folders -= {"."}

    def __getstate__(self):
        return {**self.__dict__, "_opened": {}, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())

    def stamp(self, name):
        return self._places[self._raw(name)][2]

    def read(self, name):
        return self._read(name)

    def head(self, name):
        return self._read(name, 64)

    def _list(self, file_name, number, split):
        """List the files of a tar."""
        file = self._files[number]
        last = "its beginning"
        try:
            with tarfile.open(file, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # Or it keeps them all.
                    last = f"'{member.name}'"
                    name = self._name(member.name, file_name, split)
                    if member.issym() or member.islnk():
                        self.left_out[name] = "a link"
                    elif member.isreg() and not member.issparse():
                        place = number, member.offset_data, member.mtime
                        self._places[name] = place
                        self._add(name, name, member.size)
                    elif not member.isdir():
                        self.left_out[name] = "not a regular file"
        except tarfile.TarError as error:
            raise InputError(
                f"'{file}' is compressed, damaged or cut off after {last}: "
                f"{error}. Expected a tar that is not compressed."
            ) from error

    def _name(self, name, file_name, split):
        if len(self._files) == 1:
            return name
        folder, base = posixpath.split(name)
        tar = file_name.removesuffix(SUFFIX).replace("/", ":")
        base = f"{tar}:{base}"
        return posixpath.join(split or "", folder.lstrip("/"), base)

    def _read(self, name, count=None):
        number, start, _ = self._places[self._raw(name)]
        size = self.sizes[name]
        check_size(size)
        size = size if count is None else min(size, count)
        content = os.pread(self._descriptor(number), size, start)
        if len(content) < size:
            raise OSError(f"'{self._files[number]}' is cut off")
        return content

    def _descriptor(self, number):
        if number not in self._opened:
            with self._lock:
                if number not in self._opened:
                    self._opened[number] = _Opened(self._files[number])
        return self._opened[number].descriptor


class _Opened:
    """A file that is open as long as this object exists."""

    def __init__(self, path):
        self.descriptor = None
        try:
            self.descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise gone("file", path) from error

    def __del__(self):
        if self.descriptor is not None:
            os.close(self.descriptor)
