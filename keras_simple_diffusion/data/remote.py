"""Copies of data in object stores and repositories, by `fsspec`."""

import os
import pathlib
import posixpath
import re

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
        have changed are copied again.

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
        files = _find(system, path)
        folder = _folder_of(system.unstrip_protocol(posixpath.dirname(path)))
        for file, size, version in files:
            inside = plain_path(file.removeprefix(posixpath.dirname(path)))
            if inside is not None:
                _copy(system, file, size, version, folder, inside)
    except InputError:
        raise
    except Exception as error:  # Of a server, of any kind.
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"'{url}' cannot be read: {reason or type(error).__name__}"
        ) from error
    if not files:
        raise InputError(f"There are no files at '{url}'.")
    return str(folder / "files" / posixpath.basename(path))


def _find(system, path):
    """Find files, with their sizes and a text that changes with them."""
    found = []
    if system.isfile(path):
        found = [path]
    elif system.isdir(path):
        found = system.find(path)
    else:  # Several, by a pattern, or files of `pack`.
        for name in number_names(path):
            found += system.glob(name)
        found = found or system.glob(f"{path}-*-of-*")
    return [
        (file, system.info(file)["size"], system.ukey(file))
        for file in sorted(found)
    ]


def _folder_of(url):
    default = "~/.cache/keras_simple_diffusion"
    cache = pathlib.Path(os.environ.get("KSD_CACHE", default)).expanduser()
    return cache / "data" / sha256(url)[:16]


def _copy(system, file, size, version, folder, inside):
    target, noted = folder / "files" / inside, folder / "versions" / inside
    if target.is_file() and noted.is_file() and noted.read_text() == version:
        return
    print(f"copying {file} ({size / 2**20:,.1f} MiB) to {target} ...")
    with whole_file(target) as draft:
        system.get_file(file, str(draft))
        if draft.stat().st_size != size:
            raise OSError(f"{file} was cut off")
    with whole_file(noted) as draft:
        draft.write_text(version)
