"""Plots of a run's history."""

from matplotlib import colormaps
from matplotlib import figure as matplotlib_figure
from matplotlib import ticker

from keras_simple_diffusion.training.history import read_history


def draw_loss(history, path):
    """Draw training and held-out loss against steps.

    Args:
        history: path of a `history.csv`.
        path: path of the `.png` file to write.
    """
    rows = read_history(history)
    figure = matplotlib_figure.Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    for field, label in (("loss", "training"), ("val_loss", "held out")):
        points = [
            (int(row["step"]), float(row[field])) for row in rows if row[field]
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    _finish(axes, "loss")
    figure.savefig(path, dpi=120)


def draw_levels(history, path, num_levels):
    """Draw the training loss of each range of noise levels against steps.

    Args:
        history: path of a `history.csv`.
        path: path of the `.png` file to write.
        num_levels: int.
    """
    rows = read_history(history)
    figure = matplotlib_figure.Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    colours = colormaps["viridis"]
    for level in range(num_levels):
        points = [
            (int(row["step"]), float(row[f"level_loss_{level}"]))
            for row in rows
            if float(row[f"level_loss_{level}"] or 0.0) > 0.0
        ]
        if points:
            low, high = level / num_levels, (level + 1) / num_levels
            axes.plot(
                *zip(*points, strict=True),
                color=colours(low),
                label=f"t in [{low:g}, {high:g}]",
            )
    _finish(axes, "loss by noise level, 0 is clean")
    figure.savefig(path, dpi=120)


def _label_some(value, _):
    """Labels of 2, 3 and 5 times a power of ten: more would overlap."""
    text = f"{value:g}"
    return text if text.strip("0.")[:1] in ("2", "3", "5") else ""


def _finish(axes, label):
    axes.set(xlabel="step", ylabel=label, yscale="log")
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(_label_some)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
