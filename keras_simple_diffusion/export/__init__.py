"""Models as folders that draw without Keras.

`export_model` writes the network as ONNX, OpenVINO or SavedModel, and beside it
`model.json`, all that a sampling loop needs, and `draw.py`, such a loop in
NumPy. `export_web` writes a page around them that draws in the visitor's
browser. Both need the packages of
`pip install "keras-simple-diffusion[export]"`.
"""

from keras_simple_diffusion.export.folder import export_model
from keras_simple_diffusion.export.web import export_web

__all__ = ["export_model", "export_web"]


def __dir__():
    return __all__
