"""A page in the browser to play with a model, for several visitors at once.

`serve` shows it, and needs Gradio: `pip install
"keras-simple-diffusion[app]"`. `export_space` writes a folder that shows it as
a Space of Hugging Face.
"""

from keras_simple_diffusion.app.server import serve
from keras_simple_diffusion.app.space import export_space

__all__ = ["export_space", "serve"]


def __dir__():
    return __all__
