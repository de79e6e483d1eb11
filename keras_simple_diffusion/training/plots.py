"""Plots of a run's history."""

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
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    for axis_formatter in (
        axes.yaxis.set_major_formatter,
        axes.yaxis.set_minor_formatter,
    ):
        axis_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)
