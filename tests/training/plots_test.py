"""Plots that can be read, and the page of a run."""

import dataclasses
import html
import re

import matplotlib as mpl
import pytest

from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training import plots
from keras_simple_diffusion.training.folder import RunFolder
from keras_simple_diffusion.training.page import write_page
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.settings import StudentSettings

pytestmark = pytest.mark.any_backend

FIELDS = "step,loss,val_loss," + ",".join(f"level_loss_{i}" for i in range(8))


def write_history(path, rows):
    """Write a history of tuples of a step and a loss."""
    lines = [f"{step},{loss},{loss}" + 8 * f",{loss}" for step, loss in rows]
    path.write_text("\n".join([FIELDS, *lines]) + "\n")
    return path


def numbers_of(axes):
    low, high = axes.get_ylim()
    return [
        float(label.get_text())
        for label in axes.get_yticklabels()
        if low <= label.get_position()[1] <= high
    ]


@pytest.mark.parametrize(
    "losses",
    [
        (0.7202, 0.7201),
        (0.78, 0.72),
        (1.0, 0.5),
        (0.9, 0.05),
        (1e3, 1e-4),
        (0.5,),
    ],
)
def test_the_axis_of_losses_has_numbers_in_every_range(
    losses, tmp_path, monkeypatch
):
    rows = [(10 * (n + 1), loss) for n, loss in enumerate(losses)]
    history = write_history(tmp_path / "history.csv", rows)
    figures = []
    save = mpl.figure.Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(mpl.figure.Figure, "savefig", keep)
    plots.draw_loss(history, tmp_path / "loss.png")
    plots.draw_levels(history, tmp_path / "levels.png", 8)
    for figure in figures:
        numbers = numbers_of(figure.axes[0])
        assert 3 <= len(numbers) <= 12
        assert len(set(numbers)) == len(numbers)
        # The legend does not lie over the curves.
        (legend,) = figure.legends
        frame = figure.axes[0].get_window_extent()
        assert not legend.get_window_extent().overlaps(frame)


def test_a_partial_interval_at_the_end_is_not_drawn():
    whole = [{"step": "10"}, {"step": "20"}]
    assert plots.whole_intervals([*whole, {"step": "23"}]) == whole
    assert plots.whole_intervals(whole) == whole
    assert plots.whole_intervals(whole[:1]) == whole[:1]
    assert plots.whole_intervals([]) == []


@pytest.fixture
def settings():
    settings = RunSettings.from_preset(
        Preset.open("uvit_digits_16"), {"data": "digits"}
    )
    return dataclasses.replace(settings, plan=["data  <b>9</b> images"])


def test_the_page_shows_plan_losses_and_samples(settings, tmp_path):
    folder = RunFolder(tmp_path)
    write_page(folder, settings, 0, 8, is_running=True)
    text = (tmp_path / "index.html").read_text()
    assert 'http-equiv="refresh"' in text and "none yet" in text
    write_history(folder.history, [(10, 0.5), (20, 0.4)])
    folder.samples.mkdir()
    (folder.samples / "00000010.png").touch()
    (tmp_path / "samples.png").touch()
    write_page(folder, settings, 4000, 8)
    text = (tmp_path / "index.html").read_text()
    assert "refresh" not in text and "&lt;b&gt;9&lt;/b&gt; images" in text
    assert re.findall('img src="([^"]*)"', text) == [
        "samples/00000010.png",
        "samples.png",
    ]
    assert text.count("<svg") == 2
    # Nothing is loaded from elsewhere, and the content is the same each time.
    assert not re.search('(src|href)="(https?:|//|/)', text)
    write_page(folder, settings, 4000, 8)
    assert (tmp_path / "index.html").read_text() == text


@pytest.mark.parametrize(
    "student, start, expected",
    [
        (None, None, "random weights"),
        (None, "photos_64", "photos_64"),
        (("consistency", 2, 1.5, 4), None, "the teacher's weights"),
    ],
)
def test_the_page_names_the_start(student, start, expected, settings, tmp_path):
    student = student and StudentSettings(*student)
    settings = dataclasses.replace(
        settings, plan=[], student=student, initialize_from=start
    )
    write_page(RunFolder(tmp_path), settings, 0, 8)
    text = html.unescape((tmp_path / "index.html").read_text())
    assert f"network    uvit_digits_16, from {expected}\n" in text
