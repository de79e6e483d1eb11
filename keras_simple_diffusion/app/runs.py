"""Runs of a folder, side by side: losses, samples over time, settings."""

import functools
import html
import pathlib

from PIL import Image

from keras_simple_diffusion.app import markup
from keras_simple_diffusion.training import plots
from keras_simple_diffusion.training.reporting import read_history
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.utils.errors import InputError

_MAX_RUNS = 200  # Runs that are listed.
_MAX_COMPARED = 4
_MAX_SHEETS = 24  # Sheets of one run that are shown, the last ones.
_MAX_SIDE = 768  # Pixels of a sheet, as it is sent.


class Runs:
    """Runs in one folder, of which visitors see results and no files.

    A name that a visitor sends is looked up among the runs of the folder, so
    that no other place can be named; links are not followed.

    Args:
        folder: path of a folder of runs, or `None` for no runs.
    """

    def __init__(self, folder=None):
        self.folder = folder and pathlib.Path(folder)

    def names(self):
        """List the names of the runs, the newest first."""
        if self.folder is None or not self.folder.is_dir():
            return []
        found = [
            path
            for path in self.folder.iterdir()
            if not path.is_symlink() and _is_file(path / "config.json")
        ]
        found = [path for path in found if (path / "preset").is_dir()]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.name for path in found[:_MAX_RUNS]]

    def find(self, names):
        """Return the folders of some runs.

        Args:
            names: list of strings.

        Returns:
            A dict from names to paths.

        Raises:
            InputError: if there is no such run, or they are too many.
        """
        known = self.names()
        names = list(dict.fromkeys(names or []))
        if len(names) > _MAX_COMPARED:
            raise InputError(f"Choose up to {_MAX_COMPARED} runs.")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError("There is no such run any more: reload the list.")
        return {name: self.folder / name for name in names}

    def losses(self, names):
        """Return the plots of some runs as HTML, a column each."""
        parts = [
            f"<h4>{html.escape(name)}</h4>"
            f"<p>{_progress(path)}</p>"
            f"{''.join(plots_of(path / 'history.csv'))}"
            for name, path in self.find(names).items()
        ]
        if not parts:
            return "<p>Choose runs to compare.</p>"
        return markup.columns(parts)

    def settings(self, names):
        """Return the settings of some runs as rows, those that differ first.

        Args:
            names: list of strings.

        Returns:
            A list of lists: the name of a setting, and its value in each run.
        """
        columns = [_settings_of(path) for path in self.find(names).values()]
        keys = dict.fromkeys(key for column in columns for key in column)
        rows = [[key, *(c.get(key, "") for c in columns)] for key in keys]
        return sorted(rows, key=lambda row: len(set(row[1:])) < 2)

    def samples(self, names):
        """Return the sheets of samples of some runs, over time.

        Args:
            names: list of strings.

        Returns:
            A list of tuples of a `PIL.Image.Image` and a caption.
        """
        sheets = []
        for name, path in self.find(names).items():
            found = sorted(
                each
                for each in (path / "samples").glob("*.png")
                if each.stem.isdecimal() and _is_file(each)
            )
            if _is_file(path / "samples.png"):
                found.append(path / "samples.png")
            for sheet in found[-_MAX_SHEETS:]:
                step = sheet.stem.isdecimal() and f"step {int(sheet.stem):,}"
                image = _read_sheet(sheet)
                if image is not None:
                    sheets.append((image, f"{name}, {step or 'at the end'}"))
        return sheets


def plots_of(history):
    """Draw the losses of a run, over all noise levels and by noise level.

    Args:
        history: path of a `history.csv`.

    Returns:
        HTML, a list of strings.
    """
    if not _is_file(history):
        return ["<p>There is no history of losses.</p>"]
    try:
        return _draw_plots(history, history.stat().st_mtime_ns)
    except (InputError, OSError):
        return ["<p>The history of losses cannot be read.</p>"]


@functools.lru_cache(maxsize=32)
def _draw_plots(history, changed):
    """Draw plots once for each change of the file."""
    rows = read_history(history)
    fields = rows[0] if rows else ()
    num_levels = sum(name.startswith("level_loss_") for name in fields)
    return plots.as_svg(history, num_levels)


def _progress(path):
    try:
        rows = read_history(path / "history.csv")
        steps = RunSettings.read(path).recipe.steps
    except InputError:
        return "its settings or its history cannot be read"
    done = int(rows[-1]["step"]) if rows else 0
    return f"{done:,} of {steps:,} steps"


def _settings_of(path):
    try:
        settings = RunSettings.read(path).to_dict()
    except InputError:
        return {"settings": "cannot be read"}
    recipe = settings.pop("recipe")
    flat = {**settings, **recipe}
    for name in ("plan", "facts"):
        flat.pop(name, None)
    flat.update(flat.pop("student", None) or {})
    return {k: _describe(v) for k, v in flat.items() if v not in (None, [])}


def _describe(value):
    """Describe a setting, without the place of a file on this machine."""
    if isinstance(value, str) and "://" not in value:
        value = pathlib.PurePath(value).name
    return str(value)[:200]


def _read_sheet(path):
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.thumbnail((_MAX_SIDE, _MAX_SIDE))
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # It is being replaced, or damaged.


def _is_file(path):
    return path.is_file() and not path.is_symlink()
