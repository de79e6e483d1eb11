"""Plots of the losses of a run."""

import io

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib import figure as matplotlib_figure
from matplotlib import ticker

from keras_simple_diffusion.training.reporting import read_history

_MIN_TICKS = 3


def draw_loss(history, file, **options):
    """Draw training and held-out loss against steps.

    Args:
        history: path of a `history.csv`.
        file: path or file object of the plot to write.
        **options: further arguments of `matplotlib.figure.Figure.savefig`.
    """
    rows = whole_intervals(read_history(history))
    curves = []
    for field, label in (("loss", "training"), ("val_loss", "held out")):
        points = [(row["step"], row[field]) for row in rows if row.get(field)]
        curves.append((points, {"label": label}))
    _draw(curves, "loss", file, options)


def draw_levels(history, file, num_levels, **options):
    """Draw the training loss of each range of noise levels against steps.

    Args:
        history: path of a `history.csv`.
        file: path or file object of the plot to write.
        num_levels: int.
        **options: further arguments of `matplotlib.figure.Figure.savefig`.
    """
    rows = whole_intervals(read_history(history))
    curves = []
    for level in range(num_levels):
        field = f"level_loss_{level}"
        points = [
            (row["step"], row[field])
            for row in rows
            if float(row.get(field) or 0.0) > 0.0
        ]
        low, high = level / num_levels, (level + 1) / num_levels
        style = {
            "color": colormaps["viridis"](low),
            "label": f"t in [{low:g}, {high:g}]",
        }
        curves.append((points, style))
    _draw(curves, "loss by noise level, 0 is clean", file, options)


def as_svg(history, num_levels):
    """Return both plots as SVG, for a page.

    Args:
        history: path of a `history.csv`.
        num_levels: int, see `draw_levels`.

    Returns:
        A list of two strings.
    """
    drawings = []
    options = {"format": "svg", "metadata": {"Date": None}}
    for draw, arguments in ((draw_loss, ()), (draw_levels, (num_levels,))):
        text = io.StringIO()
        draw(history, text, *arguments, **options)
        drawing = text.getvalue()
        drawings.append(drawing[drawing.index("<svg") :])
    return drawings


def whole_intervals(rows):
    """Leave out a last line that averages over a part of an interval."""
    steps = [0, *(int(row["step"]) for row in rows)]
    lengths = np.diff(steps)
    if len(rows) > 1 and lengths[-1] < np.median(lengths[:-1]):
        return rows[:-1]
    return rows


def _draw(curves, label, file, options):
    # The identifiers of an .svg file are the same in each call.
    with mpl.rc_context({"svg.hashsalt": "", "svg.fonttype": "none"}):
        figure = matplotlib_figure.Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        values = []
        for points, style in curves:
            if points:
                x, y = np.array(points, "float64").T
                marker = "o" if len(points) < 3 else None
                axes.plot(x, y, marker=marker, **style)
                values.extend(y)
        axes.set(xlabel="step", ylabel=label)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(
            ticker.MaxNLocator(6, steps=(1, 2, 5, 10), integer=True)
        )
        if values:
            # Curves may lie anywhere in the frame, so not within it.
            figure.legend(fontsize=8, loc="outside upper center", ncols=3)
        if values and min(values) > 0:  # A loss of moments may be negative.
            axes.set_yscale("log")
            _label_axis(axes)
        axes.grid(alpha=0.3)
        figure.savefig(file, dpi=120, **options)


def _label_axis(axes):
    """Place numbers on the logarithmic axis, however short its range is."""
    low, high = axes.get_ylim()
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = ticker.LogLocator(10, factors, numticks=99)
        ticks = ticks.tick_values(low, high)
        ticks = [value for value in ticks if low <= value <= high]
        if len(ticks) >= _MIN_TICKS:
            break
    else:
        ticks = ticker.MaxNLocator(5).tick_values(low, high)
    axes.yaxis.set_major_locator(ticker.FixedLocator(ticks))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
