"""Messages are wrapped to the terminal; commands stay whole."""

import pytest

from keras_simple_diffusion.utils.terminal import wrap

pytestmark = pytest.mark.any_backend


def test_lines_go_on_below_their_text():
    text = wrap("time       about ten minutes on two cores\nend", 27)
    assert text.split("\n") == [
        "time       about ten",
        "           minutes on two",
        "           cores",
        "end",
    ]


def test_commands_can_be_copied():
    command = "Images: keras-simple-diffusion generate --model runs/photos"
    assert wrap(f"one two\n{command}", 7) == f"one two\n{command}"
