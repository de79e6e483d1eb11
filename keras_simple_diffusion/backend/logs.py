"""The log of TensorFlow, which is imported with Keras on every backend.

TensorFlow's C++ code writes about twenty lines to standard error when it is
imported, most of them before any setting of its log is read. They are held
back. Errors remain visible: all other lines are written after the import, and
everything is if the import fails.
"""

import contextlib
import faulthandler
import os
import re
import sys
import tempfile

from keras_simple_diffusion.utils.imports import wrap_import

VERBOSE = "KSD_VERBOSE"

# Lines of informations, warnings and errors, not of fatal errors: those of
# Abseil, before and after it is initialized, and those of TensorFlow.
_LOG = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} \d\d:\d\d:\d+\.\d+ "
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] "
    rb"|(INFO|WARNING):absl:"
)


def hide_logs():
    """Hide TensorFlow's log, unless `KSD_VERBOSE` is set when it is imported.

    The level of the log is that of `TF_CPP_MIN_LOG_LEVEL` if it is set.
    """
    # keras_hub imports other libraries with a copy of this log, and Grain
    # warns where there is no JAX.
    for name in ("tensorflow", "keras_hub", "grain"):
        wrap_import(name, _without_log)


@contextlib.contextmanager
def _without_log():
    """Show what an import writes, apart from the log."""
    if os.environ.get(VERBOSE):
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        terminal = os.dup(2)
    except OSError:  # There is no standard error.
        yield
        return
    shows_all = True
    with tempfile.TemporaryFile() as held, _crashes_shown(terminal):
        _flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
            shows_all = False
        finally:
            _flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held:
                if shows_all or not _LOG.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def _crashes_shown(terminal):
    """Report a crash of the process to another descriptor."""
    if faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(terminal)
    try:
        yield
    finally:
        faulthandler.disable()


def _flush():
    if sys.stderr is not None:  # It is `None` in a process without a console.
        sys.stderr.flush()
