"""Whole files, folders of one process, digests, and settings of a folder."""

import contextlib
import glob
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import stat
import tempfile

from keras_simple_diffusion.utils.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks: nothing is locked there.
    fcntl = None

SETTINGS = "settings.json"  # Of a folder that a command fills.
_DIGEST_SIZE = hashlib.sha256().digest_size
_PART_SIZE = 2**20
_DRAFT = ".draft-"
_LOCK = ".lock"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


# === Whole files and folders ===


def to_path(path):
    """Convert the path of a file or folder to a `pathlib.Path` with a name.

    Args:
        path: string or path. `"."` and `".."` get the names of the folders.

    Returns:
        A `pathlib.Path`.

    Raises:
        InputError: if it is of another type, or names nothing, as `""` does.
    """
    if isinstance(path, (str, os.PathLike)) and str(path):
        found = pathlib.Path(path)
        if found.name in ("", ".."):
            found = found.resolve()
        if found.name:
            return found
    raise InputError(
        "A path must be a string such as 'runs/photos', or a `pathlib.Path`. "
        f"Received: {path!r}"
    )


class UnusablePathError(InputError, OSError):
    """Error of a path that is of another kind, or lies within a file."""


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
        The `pathlib.Path` of an empty folder to write to. If the context ends
        without an error, its files are moved to `folder`.

    Raises:
        InputError: if `folder` is a file, or lies within one.
    """
    folder = to_path(folder)
    if folder.exists() and not folder.is_dir():
        raise UnusablePathError(
            f"'{folder}' is a file, and a folder is to be written. Choose "
            "another name, or move the file."
        )
    with _draft_of(folder) as draft:
        draft.mkdir()
        yield draft
        folder.mkdir(exist_ok=True)
        for old in folder.glob(replaces) if replaces else ():
            old.unlink()
        for path in sorted(draft.rglob("*")):
            target = folder / path.relative_to(draft)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                sync(path)
                os.replace(path, target)


@contextlib.contextmanager
def new_folder(folder):
    """Write a folder completely or not at all.

    Args:
        folder: path of the target folder. An existing one is replaced.

    Yields:
        The `pathlib.Path` of an empty folder to write to. If the context ends
        without an error, it takes the place of `folder`.
    """
    folder = to_path(folder)
    with _draft_of(folder) as draft:
        draft.mkdir()
        yield draft
        if os.path.lexists(folder):  # Removed at the end, with the draft.
            os.rename(folder, draft.with_name("replaced"))
        os.rename(draft, folder)
        sync(folder.parent)


def remove_folder(folder):
    """Remove a folder completely or, if the process is killed, not at all.

    Args:
        folder: path of the folder.
    """
    folder = pathlib.Path(folder)
    with _draft_of(folder) as draft:
        os.rename(folder, draft)


@contextlib.contextmanager
def whole_file(path):
    """Write a file completely or not at all.

    Args:
        path: path of the file.

    Yields:
        The `pathlib.Path` of a temporary file of the same name in another
        folder. If the context ends without an error, it replaces `path`.

    Raises:
        InputError: if `path` is a folder, or lies within a file.
    """
    path = to_path(path)
    if path.is_dir():
        raise UnusablePathError(
            f"'{path}' is a folder, and a file is to be written. Choose "
            "another name, or move the folder."
        )
    with _draft_of(path) as draft:
        yield draft
        sync(draft)
        os.replace(draft, path)


def remove_drafts(folder, pattern="**/*"):
    """Remove the drafts that processes left when they were killed.

    Args:
        folder: path of the folder.
        pattern: string. Glob pattern of the files and folders that were being
            written. Defaults to all in the folder and its subfolders.
    """
    if fcntl is None:  # Drafts in use cannot be told from others.
        return
    parents, _, name = pattern.rpartition("/")
    pattern = f"{parents}/{_DRAFT}{name}".lstrip("/")
    for draft in list(pathlib.Path(folder).glob(pattern)):
        if draft.is_symlink() or not draft.is_dir():
            continue
        with contextlib.suppress(OSError):
            lock = _open_lock(draft / _LOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft)
            finally:
                os.close(lock)


@contextlib.contextmanager
def _draft_of(target):
    """Hold a new path of the same name in a locked folder beside the target.

    The lock distinguishes the drafts of a process that writes from those of
    one that was killed.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UnusablePathError(
            f"'{target}' cannot be written: '{error.filename}' is a file, not "
            "a folder. Choose another name, or move the file."
        ) from error
    remove_drafts(target.parent, f"{glob.escape(target.name)}-*")
    draft, lock = _locked_draft(target)
    try:
        yield draft / target.name
    finally:
        os.close(lock)
        shutil.rmtree(draft, ignore_errors=True)


def _locked_draft(target):
    while True:
        draft = tempfile.mkdtemp(
            prefix=f"{_DRAFT}{target.name}-", dir=target.parent
        )
        draft = pathlib.Path(draft)
        try:
            lock = _lock(draft / _LOCK)
        except FileNotFoundError:
            continue  # Another process has removed it before it was locked.
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        if lock is not None:
            return draft, lock


# === Folders of one process ===


@contextlib.contextmanager
def locked_folder(folder):
    """Hold a folder for this process; the end of the process releases it.

    The folder is created if it does not exist, and drafts in it are removed.
    The lock is a file `.lock`, which stays in the folder if the context ends
    with an error.

    Args:
        folder: path of the folder.

    Raises:
        InputError: if another process holds the folder, or it cannot be
            written.
    """
    folder = to_path(folder)
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
    except OSError as error:
        raise InputError(
            f"'{folder}' cannot be written: {error.strerror}. Choose another "
            "folder, or change its permissions."
        ) from error
    if lock is None:
        raise _in_use(folder)
    try:
        os.truncate(lock, 0)
        name = f"process {os.getpid()} on {socket.gethostname()}"
        os.write(lock, f"{name}\n".encode())
        remove_drafts(folder)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def check_is_free(folder):
    """Raise an `InputError` if another process holds a folder.

    Args:
        folder: path. Nothing is written to it.
    """
    path = pathlib.Path(folder) / _LOCK
    if fcntl is None or not path.is_file():
        return
    with contextlib.suppress(OSError):
        lock = _lock(path)
        if lock is None:
            raise _in_use(folder)
        os.close(lock)


def _in_use(folder):
    holder = ""
    with contextlib.suppress(OSError):  # It may just have been removed.
        holder = (pathlib.Path(folder) / _LOCK).read_text(errors="replace")
    holder = holder.strip()[:100]
    return InputError(
        f"'{folder}' is in use by {holder or 'another process'}. Wait for its "
        "end, or stop it first."
    )


def is_unused(folder, left=()):
    """Tell if a folder is absent, or empty but for a lock and drafts.

    Args:
        folder: path of the folder.
        left: names of files and folders that a process may leave in a folder
            that it held when it was killed. They count as nothing beside a
            lock.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        return not os.path.lexists(folder)
    names = [path.name for path in folder.iterdir()]
    names = [n for n in names if n != _LOCK and not n.startswith(_DRAFT)]
    return not names or (folder / _LOCK).exists() and set(names) <= set(left)


def _lock(path):
    """Open and lock a file.

    Args:
        path: path of the file, created if it does not exist.

    Returns:
        A file descriptor, whose closing releases the lock; `None` if another
        one holds the lock, or the file was removed meanwhile.
    """
    descriptor = _open_lock(path)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # The file system has no locks: work without.
        return descriptor
    os.close(descriptor)
    return None


def _open_lock(path):
    return os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)


def sync(path):
    """Wait until a file, or the entries of a folder, are on the disk.

    Args:
        path: path of the file or folder.
    """
    is_folder = pathlib.Path(path).is_dir()
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# === Digests and settings ===


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
        elif not isinstance(part, bytes):
            part = part.tobytes()
        digest.update(part)
    return digest.hexdigest()


# Settings that are chosen if they are not given.
_CHOSEN = ("seed", "num_images", "num_real_images")
# Ends of the names of settings that are digests of files.
_CONTENT = "_content"


def seal(path, key=""):
    """Append a SHA-256 digest of a file's content and of a key to the file.

    Args:
        path: path of the file.
        key: string, all that the content depends on. Defaults to `""`.
    """
    with open(path, "rb+") as file:
        file.write(_digest_of_file(file, key))


def is_intact(path, key=""):
    """Tell if a file is as it was when `seal` was called with the same key.

    Args:
        path: path of the file, which may be missing.
        key: string. Defaults to `""`.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            size = os.stat(path).st_size - _DIGEST_SIZE
            return size >= 0 and _digest_of_file(file, key, size) == file.read()
    except OSError:  # It cannot be read.
        return False


def _digest_of_file(file, key, size=float("inf")):
    """Compute the digest of a key and of the next bytes of a file."""
    digest = hashlib.sha256(f"{key}\n".encode())
    while part := file.read(min(size, _PART_SIZE)):
        digest.update(part)
        size -= len(part)
    return digest.digest()


def begin_or_resume(folder, settings, resume):
    """Check the settings of a folder whose work can be resumed.

    Nothing is written; `held_folder` does that.

    Args:
        folder: path. It must be new or empty, unless `resume` is set.
        settings: dict of JSON values that the content of the folder depends
            on. The `"seed"` among them is `None` for a random one in a new
            folder, and for the stored one in an old folder; so is the number
            of images. A name that ends in `_content` is that of a digest.
        resume: bool. Whether to continue with what `held_folder` stored.

    Returns:
        A dict, the settings to work with.

    Raises:
        InputError: if the folder is not empty, if it holds nothing to resume,
            if it was begun with other settings, or if another process holds
            it.
    """
    folder = pathlib.Path(folder)
    check_is_free(folder)
    settings = json.loads(json.dumps(settings))
    if not resume:
        _check_is_unused(folder)
        if settings["seed"] is None:
            settings["seed"] = secrets.randbits(63)
        return settings
    path = folder / SETTINGS
    if not path.exists():
        raise InputError(
            f"There is nothing to resume in '{folder}': it has no {SETTINGS}. "
            "Begin without --resume."
        )
    begun = _read_settings(path)
    for name, value in settings.items():
        if name in _CHOSEN and value is None:
            settings[name] = begun.get(name)
        elif begun.get(name) == value:
            continue
        elif name.endswith(_CONTENT):
            raise InputError(
                f"The {name.removesuffix(_CONTENT)} has changed since "
                f"'{folder}' was begun. Restore the old content to resume, or "
                "choose another output."
            )
        else:
            raise InputError(
                f"'{folder}' was begun with {name}={begun.get(name)}. "
                f"Received: {name}={value}. Repeat the options to resume, or "
                "choose another output."
            )
    return settings


def _read_settings(path):
    try:
        begun = json.loads(path.read_text()) if path.is_file() else None
        if (
            isinstance(begun, dict)
            and isinstance(begun.get("seed"), int)
            and all(isinstance(begun.get(n), int | None) for n in _CHOSEN)
        ):
            return begun
    except (OSError, ValueError, RecursionError):
        pass
    raise InputError(
        f"'{path}' is damaged. Remove '{path.parent}' to begin anew."
    )


def _check_is_unused(folder):
    if not is_unused(folder):
        raise InputError(
            f"'{folder}' holds something already. Choose another output, "
            "or pass --resume (in Python `resume=True`) to continue."
        )


@contextlib.contextmanager
def held_folder(folder, settings, resume):
    """Hold a folder for this process, and store the settings of its content.

    Args:
        folder: path, created if it does not exist.
        settings: dict, the result of `begin_or_resume`.
        resume: bool, the same as there.

    Raises:
        InputError: if another process holds the folder.
    """
    with locked_folder(folder):
        if not resume:
            _check_is_unused(folder)  # Another process may have been faster.
        with whole_file(pathlib.Path(folder) / SETTINGS) as draft:
            draft.write_text(json.dumps(settings, indent=2) + "\n")
        yield
