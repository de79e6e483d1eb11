"""The page of a run, `index.html`: plan, losses and samples."""

import html
import pathlib
import time

import keras

from keras_simple_diffusion.training import plots
from keras_simple_diffusion.training.lifecycle import result_warnings
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.user_text import printable

_SECONDS = 20.0  # Between writings, which take up to a second.
_RELOAD = '<meta http-equiv="refresh" content="10">\n'
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{reload}<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; color: #222; background: #fff; }}
h1 {{ font-size: 1.5rem; margin-bottom: 0; }}
h2 {{ font-size: 1.1rem; margin: 1.8rem 0 0.5rem; }}
progress {{ width: 100%; height: 0.6rem; }}
pre {{ background: #f5f5f5; padding: 0.8rem; white-space: pre-wrap; }}
.strip {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
figure {{ margin: 0; max-width: 100%; }}
figure img {{ display: block; max-height: 22rem; max-width: 100%;
  margin: auto; }}
figcaption {{ color: #555; text-align: center; }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
.plots svg {{ flex: 1 1 24rem; max-width: 36rem; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{status}</p>
<progress value="{step}" max="{steps}"></progress>
<h2>Samples</h2>
{samples}
<h2>Loss</h2>
{losses}
<h2>{heading}</h2>
<pre>{plan}</pre>
</body>
</html>
"""


def write_page(folder, settings, step, num_levels, is_running=False):
    """Write the page of a run.

    It refers to files of the run's folder only, and loads itself again while
    the run is on.

    Args:
        folder: `RunFolder`.
        settings: `RunSettings`.
        step: int. Number of steps done.
        num_levels: int. Number of ranges of noise levels in the history.
        is_running: bool. Defaults to `False`.
    """
    recipe = settings.recipe
    path = folder.path / "index.html"
    text = _PAGE.format(
        reload=_RELOAD if is_running else "",
        title=html.escape(printable(folder.path.resolve().name)),
        status=_status(step, recipe.steps, is_running),
        step=step,
        steps=recipe.steps,
        samples=_strip(folder, is_running),
        losses=_plots(folder.history, num_levels),
        heading="Plan" if settings.plan else "Settings",
        plan=html.escape("\n".join(settings.plan or _settings(settings))),
    )
    with result_warnings(path), whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


class Page(keras.callbacks.Callback):
    """Write the page at the end of intervals, every 20 seconds at most.

    Args:
        position: the run's `Position`.
        write: function of the step that writes the page.
    """

    def __init__(self, position, write):
        super().__init__()
        self.position = position
        self.write = write
        self.next_time = 0.0

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() >= self.next_time:
            self.write(self.position.step)
            self.next_time = time.monotonic() + _SECONDS


def _status(step, steps, is_running):
    text = f"{step:,} of {steps:,} steps"
    if is_running:
        return f"training: {text}; this page loads itself again"
    return f"ended after {text}"


def _strip(folder, is_running):
    # Those of other models, which have names, come first.
    paths = sorted(
        pathlib.Path(folder.samples).glob("*.png"),
        key=lambda path: (path.stem.isdecimal(), path.stem),
    )
    sheets = [(f"samples/{path.name}", _caption(path.stem)) for path in paths]
    if not is_running and (folder.path / "samples.png").exists():
        sheets.append(("samples.png", "at the end"))
    if not sheets:
        return "<p>There are none yet.</p>"
    figures = [
        f'<figure><a href="{name}"><img src="{name}" alt="{caption}"></a>'
        f"<figcaption>{caption}</figcaption></figure>"
        for name, caption in sheets
    ]
    return '<div class="strip">\n' + "\n".join(figures) + "\n</div>"


def _caption(name):
    return f"step {int(name):,}" if name.isdecimal() else html.escape(name)


def _plots(history, num_levels):
    if not history.exists():
        return "<p>There is none yet.</p>"
    drawings = "\n".join(plots.as_svg(history, num_levels))
    return f'<div class="plots">\n{drawings}</div>'


def _settings(settings):
    height, width = settings.image_size
    recipe = settings.recipe
    default = "the teacher's weights" if settings.student else "random weights"
    return [
        f"data       {printable(settings.data)}",
        f"network    {printable(settings.preset)}, from "
        f"{printable(settings.initialize_from or default)}",
        f"size       {height} x {width} pixels",
        f"schedule   {recipe.steps:,} steps of {recipe.batch_size} images; "
        f"learning rate {recipe.learning_rate:g}; average of decay "
        f"{recipe.ema_decay:g}",
        f"mirroring  {'half of the images' if recipe.flip else 'none'}",
    ]
