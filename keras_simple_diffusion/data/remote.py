"""Copies of data in object stores and repositories, by `fsspec`."""

import contextlib
import os
import pathlib
import posixpath
import re

from keras_simple_diffusion.data.containers import is_hidden
from keras_simple_diffusion.data.containers import plain_path
from keras_simple_diffusion.data.shards import number_names
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import whole_file


def is_remote(name):
    """Tell if a name is a URL, such as `gs://bucket/photos.array_record`."""
    return bool(re.match("[a-z][a-z0-9+.-]*://", str(name)))


def copy_here(url):
    """Copy the files that a URL stands for to a local folder, once.

    Args:
        url: string, the URL of a file, of a folder, or of several files, see
            `keras_simple_diffusion.data.open_data`. `fsspec` reads it: gs://
            with gcsfs installed, s3:// with s3fs, hf:// with huggingface_hub.

    Returns:
        The name of the copy, which ends like the URL. It is in the folder
        `KSD_CACHE`, by default `~/.cache/keras_simple_diffusion`. Files that
        have changed are copied again, and copies of those that are gone there
        are removed.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        import fsspec
    except ImportError:
        raise InputError(
            f"'{url}' is read by fsspec, which is not installed. Install it: "
            "pip install fsspec"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(url)
        path = path.rstrip("/")
        folder = _folder_of(system.unstrip_protocol(posixpath.dirname(path)))
        copy = folder / "files" / posixpath.basename(path)
        # Before the listing, so that what another process copies is not old.
        old = _find(fsspec.filesystem("file"), str(copy))
        system.invalidate_cache()
        files = _find(system, path)
        places = {
            file: plain_path(file.removeprefix(posixpath.dirname(path)))
            for file in files
        }
        if files:
            _remove(folder, old, set(places.values()))
        for file, inside in places.items():
            if inside is not None:
                _copy(system, file, folder, inside)
    except InputError:
        raise
    except Exception as error:  # Of a server, of any kind.
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"'{url}' cannot be read: {reason or type(error).__name__}"
        ) from error
    if not files:
        raise InputError(f"There are no files at '{url}'.")
    return str(copy)


def _find(system, path):
    """Find the files that a path stands for."""
    found = []
    if system.isfile(path):
        found = [path]
    elif system.isdir(path):
        found = system.find(path)
    else:  # Several, by a pattern, or files of `pack`.
        for name in number_names(path):
            found += system.glob(name)
        found = found or system.glob(f"{path}-*-of-*")
    return sorted(found)


def _folder_of(url):
    default = "~/.cache/keras_simple_diffusion"
    cache = pathlib.Path(os.environ.get("KSD_CACHE", default)).expanduser()
    return cache.absolute() / "data" / sha256(url)[:16]


def _remove(folder, copies, kept):
    """Remove copies that are gone at their origin, and emptied folders."""
    for copy in map(pathlib.Path, copies):
        inside = plain_path(copy.relative_to(folder / "files").as_posix())
        # Inside a folder the drafts of another process are hidden.
        is_draft = is_hidden(inside.partition("/")[2])
        if inside in kept or is_draft or not copy.is_file():
            continue
        print(f"removing {copy}, which is gone at its origin")
        for kind in ("files", "versions"):
            path = folder / kind / inside
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # It holds other files.
                for parent in pathlib.Path(inside).parents[:-1]:
                    (folder / kind / parent).rmdir()


def _copy(system, file, folder, inside):
    target, noted = folder / "files" / inside, folder / "versions" / inside
    size, version = system.info(file)["size"], system.ukey(file)
    if target.is_file() and noted.is_file() and noted.read_text() == version:
        return
    print(f"copying {file} ({size / 2**20:,.1f} MiB) to {target} ...")
    with whole_file(target) as draft:
        system.get_file(file, str(draft))
        if draft.stat().st_size != size:
            raise OSError(f"{file} was cut off")
    with whole_file(noted) as draft:
        draft.write_text(version)
