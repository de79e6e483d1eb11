"""A Ctrl-C is neither lost nor taken too early."""

import gc
import os
import signal
import sys
import time

import pytest

from keras_simple_diffusion.utils.interrupts import raise_lost_interrupts

pytestmark = pytest.mark.any_backend


def test_ctrl_c_in_the_garbage_collector_is_raised_again(monkeypatch):
    # A background process ignores it; Python's own handler raises.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    raise_lost_interrupts()
    received = []

    def collect(phase, info):
        if not received:
            received.append(phase)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    gc.callbacks.append(collect)
    try:
        with pytest.raises(KeyboardInterrupt):
            gc.collect()
            time.sleep(10)
    finally:
        gc.callbacks.remove(collect)
        signal.signal(signal.SIGINT, before)
    assert received
