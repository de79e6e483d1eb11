"""The time that drawing takes, and the number of images that fits into it."""

import contextlib
import time

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.utils.bars import watching
from keras_simple_diffusion.utils.terminal import say

USUAL = 10_000  # Images of an evaluation.
_SECONDS = 15 * 60  # Of drawing on a CPU, by default.
_MEASURED = 3.0  # Seconds.
_FEWEST = 50


def measure_drawing(draw):
    """Measure the time per image by drawing the beginning of a batch.

    Args:
        draw: function without arguments that draws a batch.

    Returns:
        Seconds per image, a float.
    """
    reports = []

    def note(count):
        now = time.monotonic()
        reports.append((now, count))
        if now - reports[0][0] > _MEASURED:
            raise _Enough

    with contextlib.suppress(_Enough), watching(note):
        draw()
        draw()  # The first report includes compilation.
    count = sum(count for _, count in reports[1:])
    return (reports[-1][0] - reports[0][0]) / count


class _Enough(Exception):
    pass


def fit_count(seconds, share=1.0):
    """Choose the number of images that a device draws in reasonable time.

    Args:
        seconds: float or `None` if unknown, those per image.
        share: float. The part of the time that there is for them. Defaults
            to `1.0`.

    Returns:
        An int, fewer than the usual 10,000 only on a CPU.
    """
    if seconds is None or "cpu" not in native.device_name():
        return USUAL
    count = int(share * _SECONDS / seconds)
    return min(max(count // _FEWEST, 1) * _FEWEST, USUAL)


def announce(count, seconds, is_chosen):
    """Print how long an evaluation will draw.

    Args:
        count: int. Number of images, of one setting of the sampler.
        seconds: float. Of all settings.
        is_chosen: bool. Whether the number was not given.
    """
    minutes = seconds / 60
    text = f"{minutes / 60:.1f} h" if minutes > 90 else f"{minutes:.0f} min"
    if minutes < 1:
        text = f"{seconds:.0f} s"
    hint = ""
    if is_chosen and count < USUAL:
        hint = (
            f"; as many as fit on this device. --num-images changes it: "
            f"{USUAL:,} are usual"
        )
    say(f"drawing {count:,} images takes about {text}{hint}")
