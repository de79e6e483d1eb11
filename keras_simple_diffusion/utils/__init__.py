"""Errors, files, configurations and presets; nothing that computes.

`show` arranges images on a sheet, which a notebook displays, and `to_pil`
converts them to Pillow's.
"""

import importlib

__all__ = ["show", "to_pil"]


def __dir__():
    return __all__


def __getattr__(name):  # The command's help need not wait for Pillow.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.sheets"), name)
