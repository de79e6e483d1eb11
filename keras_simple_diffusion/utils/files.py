import contextlib
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def whole_folder(folder):
    """Write the files of a folder aside, and move them in when all are whole.

    Args:
        folder: path of the folder. Files it already holds stay, unless one of
            the same name is written.

    Yields:
        The path of an empty folder to write into. When the context ends
        without an error its files are moved to `folder`.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    try:
        yield draft
        folder.mkdir(exist_ok=True)
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
    """Write a file whole or not at all.

    Args:
        path: path of the file.

    Yields:
        The path of a draft beside it, with the same suffix, which replaces
        `path` when the context ends without an error.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
