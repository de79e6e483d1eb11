"""Files by name, in a folder or in a zip, from any thread or process."""

import os
import pathlib
import threading
import zipfile

from keras_simple_diffusion.utils.errors import InputError


def open_container(path):
    """Open a folder or zip.

    Args:
        path: path of a folder or of a `.zip` file.

    Returns:
        A `Folder` or `Zip`.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"There is no folder or zip file at '{path}'.")
    return Folder(path) if path.is_dir() else Zip(path)


class Folder:
    """The files of a folder and of the folders inside it.

    Args:
        path: path of the folder.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def sizes(self):
        """A dict of the files' names, with `/` between folders, and sizes."""
        sizes = {}
        for folder, _, names in os.walk(self.path, followlinks=True):
            inside = pathlib.Path(folder).relative_to(self.path).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            for name in names:
                try:
                    size = os.stat(os.path.join(folder, name)).st_size
                except OSError:  # A link to nowhere, or gone meanwhile.
                    size = 0
                sizes[prefix + name] = size
        return sizes

    def stamp(self, name):
        """When a file was last written."""
        return os.stat(self.path / name).st_mtime_ns

    def read(self, name):
        """Content of a file, as bytes."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            if not self.path.is_dir():
                raise _gone("folder", self.path) from error
            raise


class Zip:
    """The files of a zip.

    It can be sent to other processes, each of which opens it for itself.

    Args:
        path: path of the zip.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._opened = None

    def __getstate__(self):
        return {"path": self.path, "_opened": None}

    def sizes(self):
        """A dict of the files' names, with `/` between folders, and sizes."""
        file, _ = self._open()
        return {
            info.filename: info.file_size
            for info in file.infolist()
            if not info.is_dir()
        }

    def stamp(self, name):
        """The checksum of a file."""
        file, _ = self._open()
        return file.getinfo(name).CRC

    def read(self, name):
        """Content of a file, as bytes."""
        file, lock = self._open()
        with lock:
            return file.read(name)

    def _open(self):
        # A process that was forked must not share the position in the file.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                file = zipfile.ZipFile(self.path)
            except FileNotFoundError as error:
                raise _gone("zip file", self.path) from error
            except zipfile.BadZipFile as error:
                raise InputError(
                    f"'{self.path}' is not a readable zip file: {error}."
                ) from error
            self._opened = (os.getpid(), file, threading.Lock())
        return self._opened[1:]


def _gone(kind, path):
    return InputError(
        f"The {kind} '{path}' is gone: it was there when it was opened. Put it "
        "back, and go on from the last checkpoint."
    )
