"""Bars on the terminal that follow the drawing of images, step by step."""

import contextlib
import contextvars

_watcher = contextvars.ContextVar("watcher", default=None)


def watcher():
    """Return the function that follows the drawing, or `None`."""
    return _watcher.get()


@contextlib.contextmanager
def watching(function):
    """Context in which a function follows the drawing of images.

    Args:
        function: function of a float, a number of images. A batch of 4 images
            at the middle one of 3 steps is 4 / 3 images. If it raises an
            exception, the drawing ends with it.
    """
    token = _watcher.set(function)
    try:
        yield
    finally:
        _watcher.reset(token)


class Bar:
    """Context with a bar of images, on a terminal or in a notebook.

    It moves with every image that is drawn in the context, or by `reach`.

    Args:
        title: string.
        total: int. Number of images.
        is_hidden: bool. Defaults to `False`.
    """

    def __init__(self, title, total, is_hidden=False):
        from rich import console  # Help of commands need not wait for it.
        from rich import progress

        self.total = total
        self.done = 0.0
        shown = console.Console()
        is_shown = shown.is_terminal or shown.is_jupyter
        self._is_hidden = is_hidden or not is_shown or not total
        self._exits = contextlib.ExitStack()
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.percentage:>3.0f}%"),
            progress.TimeRemainingColumn(
                compact=True, elapsed_when_finished=True
            ),
            console=shown,
            expand=True,
            disable=self._is_hidden,
        )
        self._task = self._progress.add_task(title, total=total)

    def __enter__(self):
        self._exits.enter_context(self._progress)
        if not self._is_hidden:
            self._exits.enter_context(watching(self._advance))
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            self.reach(self.total)
        self._exits.close()

    def reach(self, count):
        """Move to a number of images.

        Args:
            count: float.
        """
        self.done = min(count, self.total)
        self._progress.update(self._task, completed=self.done)

    def _advance(self, count):
        self.reach(self.done + count)
