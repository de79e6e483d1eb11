"""Ctrl-C at a moment that must not be, or cannot be, interrupted."""

import _thread
import contextlib
import signal
import sys
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


def raise_lost_interrupts():
    """Raise a Ctrl-C again that Python could not raise.

    It drops exceptions in callbacks of the garbage collector, of which JAX has
    one.
    """
    report = sys.unraisablehook

    def raise_again(lost):
        if lost.exc_type is KeyboardInterrupt:
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            report(lost)

    sys.unraisablehook = raise_again
