"""Pixel-space diffusion models for Keras 3: simple diffusion and SiD2."""

import importlib
import multiprocessing
import pathlib
import sys

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.version import __version__

_NAMESPACES = (
    "data",
    "distribution",
    "evaluation",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "samplers",
    "schedules",
    "text",
)

__all__ = ["__version__", *_NAMESPACES]


def _is_command_line():
    """Whether this process is our own command, whose help needs no Keras."""
    if pathlib.PurePath(sys.argv[0]).stem == "keras-simple-diffusion":
        return True
    return sys.argv[0] == "-m" and __name__ in sys.orig_argv


def _is_data_worker():
    """Whether this process is one of Grain's, which only reads images."""
    return multiprocessing.current_process().name.startswith("grain-")


def __getattr__(name):
    if name in _NAMESPACES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if not _is_command_line() and not _is_data_worker():
    check_backend()
    # Importing the namespaces registers their classes with Keras, so that
    # `keras_hub.models.Backbone.from_preset()` finds ours.
    for _name in _NAMESPACES:
        importlib.import_module(f"{__name__}.{_name}")
