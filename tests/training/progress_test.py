"""The line on the terminal, in a real terminal's width."""

import contextlib
import time

import pytest
from rich import console

from keras_simple_diffusion.training.lifecycle import Position
from keras_simple_diffusion.training.progress import Progress

pytestmark = pytest.mark.any_backend


class Due:
    """A `Saving` whose next checkpoint is in 75 seconds."""

    def seconds_left(self, steps_per_second):
        return 75.0


def make(steps=40, width=80, is_terminal=True, **kwargs):
    position = Position(step=0)
    line = Progress(position, steps, 16, saving=Due(), **kwargs)
    line.console = console.Console(
        width=width, force_terminal=is_terminal, record=True, highlight=False
    )
    return position, line


def take_step(position, line, loss):
    position.count_batch()
    line.on_train_batch_end(0, {"loss": loss})


def test_the_line_tells_loss_speed_time_and_checkpoint():
    position, line = make(waiting=lambda: 0.02, minutes=1)
    take_step(position, line, 0.5)
    time.sleep(0.01)
    take_step(position, line, 0.5)
    text = line.describe()
    assert text.startswith("2/40  loss 0.5000")
    assert "2% waiting" in text and "images/s" in text
    assert "saves in" in text
    line.close()
    # The time that is left is that of the minutes if they are shorter.
    line.steps = 10**9
    assert "0:59 left" in line.describe() or "1:00 left" in line.describe()
    assert len(line.describe()) <= 90


@pytest.mark.parametrize(
    "loss, text",
    [(0.25, "0.2500"), (0.001, "0.0010"), (2.5e-5, "2.5e-05"), (0.0, "0.0000")],
)
def test_small_losses_are_no_zeros(loss, text):
    position, line = make()
    take_step(position, line, loss)
    line.read_at = 0.0
    take_step(position, line, loss)
    line.close()
    assert f"loss {text}" in line.describe()


@pytest.mark.parametrize("width", [80, 120])
def test_the_loss_is_shown_before_the_first_interval_ends(width):
    position, line = make(width=width)
    with contextlib.closing(line):
        take_step(position, line, 0.25)
        assert line.line is not None
    assert line.line is None
    assert "1/40  loss 0.2500" in line.console.export_text()


def test_elsewhere_there_is_a_line_per_interval(capsys):
    position, line = make(is_terminal=False)
    line.on_train_begin()
    take_step(position, line, 0.25)
    assert line.line is None
    line.on_epoch_end(0, {"loss": 0.125})
    line.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling the training step ..."
    assert lines[1].startswith("step 1/40  loss 0.1250")
