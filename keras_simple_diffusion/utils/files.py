"""Files that are written whole, their digests, and folders to resume."""

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import tempfile

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

_SETTINGS = "settings.json"


@contextlib.contextmanager
def whole_folder(folder, replaces=None):
    """Write files to a temporary folder and move them when all are complete.

    Args:
        folder: path of the target folder. Existing files are kept unless a file
            of the same name is written.
        replaces: string or `None`. Glob pattern of the existing files that are
            removed when all are complete, so that none of them is mistaken
            for a new one.

    Yields:
        The path of an empty folder to write to. If the context ends without an
        error, its files are moved to `folder`.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    try:
        yield draft
        folder.mkdir(exist_ok=True)
        for old in folder.glob(replaces) if replaces else ():
            old.unlink()
        for path in sorted(pathlib.Path(draft).rglob("*")):
            target = folder / path.relative_to(draft)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(path, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path):
    """Write a file completely or not at all.

    Args:
        path: path of the file.

    Yields:
        The path of a temporary file in the same folder with the same suffix. If
        the context ends without an error, it replaces `path`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def sha256(*parts):
    """Compute one SHA-256 digest of several values in order.

    Args:
        *parts: strings, bytes and NumPy arrays. Of arrays the values count,
            not shape and dtype.

    Returns:
        A hexadecimal string.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        elif isinstance(part, np.ndarray):
            part = part.tobytes()
        digest.update(part)
    return digest.hexdigest()


def begin_or_resume(folder, settings, resume):
    """Check the settings of a folder whose work can be resumed.

    Args:
        folder: path. It must be new or empty, unless `resume` is set.
        settings: dict of JSON values that the content of the folder depends
            on. A `"seed"` of `None` becomes a random one in a new folder, and
            the stored one in an old folder.
        resume: bool. Whether to continue with what `write_settings` stored.

    Returns:
        A dict, the settings to work with.

    Raises:
        InputError: if the folder is not empty, if it holds nothing to resume,
            or if it was begun with other settings.
    """
    folder = pathlib.Path(folder)
    settings = json.loads(json.dumps(settings))
    if not resume:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"'{folder}' holds something already. Choose another output, "
                "or pass --resume (in Python `resume=True`) to continue."
            )
        if settings.get("seed", 0) is None:
            settings["seed"] = secrets.randbits(63)
        return settings
    path = folder / _SETTINGS
    if not path.exists():
        raise InputError(
            f"There is nothing to resume in '{folder}': it has no {_SETTINGS}. "
            "Begin without --resume."
        )
    try:
        stored = json.loads(path.read_text())
        begun = {name: stored.get(name) for name in settings}
    except (ValueError, AttributeError):
        raise InputError(
            f"'{path}' is damaged. Remove '{folder}' to begin anew."
        ) from None
    for name, value in settings.items():
        if name == "seed" and value is None:
            continue
        if begun[name] != value:
            raise InputError(
                f"'{folder}' was begun with {name}={begun[name]}. Received: "
                f"{name}={value}. Repeat the options to resume, or choose "
                "another output."
            )
    return begun


def write_settings(folder, settings):
    """Store settings for `begin_or_resume`.

    Args:
        folder: path, created if it does not exist.
        settings: dict of JSON values.
    """
    with whole_file(pathlib.Path(folder) / _SETTINGS) as draft:
        draft.write_text(json.dumps(settings, indent=2) + "\n")
