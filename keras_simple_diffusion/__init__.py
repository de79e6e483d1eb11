"""Pixel-space diffusion models for Keras 3: simple diffusion and SiD2.

- `models`: models that train and generate, and their networks.
- `training`: training runs that can be interrupted and resumed.
- `distillation`: students that draw in a few steps.
- `data`: images from folders, zip files, TensorFlow Datasets and arrays.
- `samplers`, `schedules`, `losses`, `ops`: the diffusion process.
- `metrics`, `evaluation`: how good the generated images are.
- `layers`, `optimizers`, `text`, `distribution`: the parts of all this.
- `app`: a page in the browser to play with a model.
- `converters`: weights from and for other projects.
- `export`: models as folders that draw without Keras.
- `utils`: images on a sheet, and as those of Pillow.

A namespace is imported when it is first used, so that
`import keras_simple_diffusion` is quick.
"""

import importlib

from keras_simple_diffusion.backend.logs import hide_logs
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.registration import register_with_keras
from keras_simple_diffusion.version import __version__

_NAMESPACES = (
    "app",
    "converters",
    "data",
    "distillation",
    "distribution",
    "evaluation",
    "export",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "samplers",
    "schedules",
    "text",
    "training",
    "utils",
)

__all__ = ["InputError", "__version__", *_NAMESPACES]


def __dir__():
    return __all__


def __getattr__(name):
    if name not in _NAMESPACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_simple_diffusion.backend.choice import check_backend

    check_backend()
    return importlib.import_module(f"{__name__}.{name}")


hide_logs()
register_with_keras()
