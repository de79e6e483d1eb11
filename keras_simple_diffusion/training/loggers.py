import importlib.util
import pathlib

import keras

from keras_simple_diffusion.utils.errors import InputError

_NEEDED = {"tensorboard": ("tensorboard", "tensorflow"), "wandb": ("wandb",)}


def check_loggers(names):
    """Raise an `InputError` unless there are such loggers, installed."""
    for name in names:
        if name not in _NEEDED:
            raise InputError(
                "The loggers are 'tensorboard' and 'wandb'. Received: "
                f"'{name}'. `history.csv` is always written."
            )
        for package in _NEEDED[name]:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"Logging to {name} needs the package {package}: run `pip "
                    f"install {package}`."
                )


def make_loggers(names, folder):
    """Callbacks that send a run's logs elsewhere, from their own makers.

    Args:
        names: list of strings, `"tensorboard"` or `"wandb"`.
        folder: path of the run.

    Returns:
        A list of `keras.callbacks.Callback`s.
    """
    return [_make_logger(name, pathlib.Path(folder)) for name in names]


def _make_logger(name, folder):
    if name == "tensorboard":
        return keras.callbacks.TensorBoard(
            str(folder / "tensorboard"), write_graph=False
        )
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    if wandb.run is None:
        wandb.init(dir=str(folder), name=folder.name)
    return WandbMetricsLogger()
