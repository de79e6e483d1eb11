"""Parts of torch-fidelity: its Inception with our weights, its metrics.

    pip install --no-deps torch-fidelity

It imports torchvision, of a build that must match PyTorch's, for what is not
needed here; empty modules stand for it where it is not installed.
"""

import importlib
import pathlib
import sys
import tempfile
import types

import numpy as np
import torch

from keras_simple_diffusion.metrics.inception_weights import LAYERS


class _Nothing(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def fidelity_module(name):
    """A module of torch-fidelity."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        parts = ("", ".datasets", ".transforms", ".transforms.functional")
        for part in parts:
            module = _Nothing(f"torchvision{part}")
            module.__path__ = []
            sys.modules[module.__name__] = module
            parent, _, child = module.__name__.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
    return importlib.import_module(f"torch_fidelity.{name}")


def fidelity_network(path):
    """A function of a `uint8` tensor `(N, 3, H, W)` with a tuple of features.

    Args:
        path: path of the folded weights, a `.npz`.
    """
    weights, state = np.load(path), {}
    for ours, theirs in LAYERS.items():
        kernel, bias = weights[f"{ours}/kernel"], weights[f"{ours}/bias"]
        ones = np.ones(len(bias))
        # A batch norm that only adds the bias: its epsilon is 0.001.
        arrays = {
            "conv.weight": kernel.transpose(3, 2, 0, 1),
            "bn.weight": ones,
            "bn.bias": bias,
            "bn.running_mean": 0 * ones,
            "bn.running_var": ones - 1e-3,
            "bn.num_batches_tracked": np.array(0),
        }
        for name, array in arrays.items():
            state[f"{theirs}.{name}"] = torch.tensor(array.copy())
    state["fc.weight"] = torch.zeros(1008, 2048)
    state["fc.bias"] = torch.zeros(1008)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "state.pth"
        torch.save(state, file)
        module = fidelity_module("feature_extractor_inceptionv3")
        return module.FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048"],
            feature_extractor_weights_path=str(file),
        )
