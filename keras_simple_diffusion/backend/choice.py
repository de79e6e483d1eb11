import importlib.util
import json
import os
import pathlib

from keras_simple_diffusion.utils.errors import InputError

BACKENDS = ("jax", "tensorflow", "torch")


def configured_backend():
    """The backend that Keras uses or will use, read without importing it."""
    name = os.environ.get("KERAS_BACKEND")
    home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    file = home / "keras.json"
    if not name and file.exists():
        name = json.loads(file.read_text()).get("backend")
    return name or "tensorflow"


def check_backend():
    """Raise an `InputError` unless Keras has a backend that works here."""
    name = configured_backend()
    if name not in BACKENDS:
        raise InputError(
            "keras_simple_diffusion runs on the Keras backends jax, tensorflow "
            f"and torch. Received: KERAS_BACKEND={name}. Set the environment "
            "variable KERAS_BACKEND to one of them."
        )
    if importlib.util.find_spec(name) is None:
        installed = [b for b in BACKENDS if importlib.util.find_spec(b)]
        raise InputError(
            f"The Keras backend '{name}' is not installed. Run `pip install "
            f"keras-simple-diffusion[{name}]`, or set KERAS_BACKEND to one "
            f"that is: {', '.join(installed) or 'none'}."
        )


def runs_eagerly():
    """Whether operations run one by one, not as a compiled program."""
    if configured_backend() != "torch":
        return False
    import torch

    return not torch.compiler.is_compiling()


def device_name():
    """What the backend computes on, such as `"cpu"` or a GPU's name."""
    name = configured_backend()
    if name == "jax":
        import jax

        devices = jax.devices()
        kind = devices[0].device_kind
        return kind if len(devices) == 1 else f"{len(devices)} x {kind}"
    if name == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return f"{len(gpus)} GPU" if gpus else "cpu"
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu"
