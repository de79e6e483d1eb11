"""Choice of the Keras backend, read before Keras is imported."""

import importlib.util
import os
import pathlib

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import read_json

TRAINING_BACKENDS = ("jax", "tensorflow", "torch")
BACKENDS = (*TRAINING_BACKENDS, "openvino")


def configured_backend():
    """Return the name of the backend that Keras uses or will use."""
    name = os.environ.get("KERAS_BACKEND")
    home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    file = home / "keras.json"
    if not name and file.exists():
        name = read_json(file).get("backend")
    return name or "tensorflow"


def check_backend():
    """Raise an `InputError` unless the backend is supported and installed."""
    name = configured_backend()
    if name not in BACKENDS:
        raise InputError(
            "keras_simple_diffusion runs on the Keras backends jax, "
            "tensorflow, torch and, without training, openvino. Received: "
            f"KERAS_BACKEND={name}. Set the environment variable "
            "KERAS_BACKEND to one of them."
        )
    if importlib.util.find_spec(name) is None:
        installed = [b for b in BACKENDS if importlib.util.find_spec(b)]
        raise InputError(
            f"The Keras backend '{name}' is not installed. Run `pip install "
            f"{name}`, or set KERAS_BACKEND to one that is: "
            f"{', '.join(installed) or 'none'}."
        )


def check_training():
    """Raise an `InputError` if the backend only draws."""
    name = configured_backend()
    if name not in TRAINING_BACKENDS:
        raise InputError(
            f"The Keras backend '{name}' draws images; it neither trains nor "
            "measures the loss. Set the environment variable KERAS_BACKEND to "
            f"one of {', '.join(TRAINING_BACKENDS)}."
        )
