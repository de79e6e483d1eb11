"""ONNX Runtime Web, from the registry of npm or from a file."""

import base64
import hashlib
import json
import os
import pathlib
import tarfile
import urllib.request

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.terminal import say

VERSION = "1.30.0"
_URL = (
    "https://registry.npmjs.org/onnxruntime-web/-/"
    f"onnxruntime-web-{VERSION}.tgz"
)
# As the registry states it.
_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1"
    "SigqR4CXAfKYQ=="
)
# With and without a graphics processor.
_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.jspi.min.mjs",
    "ort-wasm-simd-threaded.jspi.mjs",
    "ort-wasm-simd-threaded.jspi.wasm",
)
# The package names its license only.
_LICENSE = f"""ONNX Runtime Web {VERSION}
https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def find_runtime(source=None):
    """Find the files of ONNX Runtime Web that the page needs.

    Args:
        source: path of the npm package `onnxruntime-web` of `VERSION`, as a
            tarball or unpacked. Defaults to that of npm's registry, which is
            downloaded once into the user's cache.

    Returns:
        A dict from names to bytes, with the license.

    Raises:
        InputError: if it cannot be downloaded, or is another package.
    """
    source = _download() if source is None else pathlib.Path(source)
    read = _read_folder if source.is_dir() else _read_tarball
    return {**read(source), "LICENSE": _LICENSE.encode()}


def _read_folder(folder):
    try:
        package = json.loads((folder / "package.json").read_text())
        if package["version"] == VERSION:
            return {n: (folder / "dist" / n).read_bytes() for n in _FILES}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise _another_package(folder)


def _read_tarball(path):
    if not path.is_file():
        raise InputError(
            f"There is no package of ONNX Runtime Web at '{path}'. Leave out "
            "`--runtime` to download it."
        )
    if not _is_intact(path):
        raise _another_package(path)
    with tarfile.open(path) as file:
        return {
            name: file.extractfile(f"package/dist/{name}").read()
            for name in _FILES
        }


def _another_package(path):
    return InputError(
        f"'{path}' is not the package onnxruntime-web {VERSION}: get it by "
        f"`npm pack onnxruntime-web@{VERSION}`."
    )


def _is_intact(path):
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return base64.b64encode(digest).decode() == _SHA512


def _download():
    """Download the package, or find it where it was put before."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = pathlib.Path(cache).expanduser() / "keras_simple_diffusion"
    path = folder / f"onnxruntime-web-{VERSION}.tgz"
    if path.is_file() and _is_intact(path):
        return path
    say(f"Downloading onnxruntime-web {VERSION}, 33 MB, into {folder}")
    try:
        with (
            whole_file(path) as draft,
            urllib.request.urlopen(_URL, timeout=60) as response,
            draft.open("wb") as file,
        ):
            while part := response.read(2**20):
                file.write(part)
    except OSError as error:
        raise InputError(
            f"onnxruntime-web {VERSION} cannot be downloaded: {error}. Get it "
            f"elsewhere by `npm pack onnxruntime-web@{VERSION}`, and pass the "
            "file: --runtime FILE."
        ) from error
    if not _is_intact(path):
        path.unlink()
        raise InputError(
            f"The download of onnxruntime-web {VERSION} is damaged: it does "
            "not have the digest that the registry stated. Try again."
        )
    return path
