"""Models as folders that draw without Keras.

`export_model` writes the network as ONNX, OpenVINO or SavedModel, and beside it
`model.json`, all that a sampling loop needs, and `draw.py`, such a loop in
NumPy. It needs the packages of `pip install "keras-simple-diffusion[export]"`.
"""

from keras_simple_diffusion.export.folder import export_model

__all__ = ["export_model"]


def __dir__():
    return __all__
