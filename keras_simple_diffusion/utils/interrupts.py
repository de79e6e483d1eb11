"""Ctrl-C at a moment that must not be interrupted."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def uninterrupted():
    """Context that Ctrl-C does not end: it takes effect afterwards.

    A second Ctrl-C ends it.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(handler):
        yield
        return
    received = []

    def note(*arguments):
        if received:
            handler(*arguments)
        received.append(arguments)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        handler(*received[0])
