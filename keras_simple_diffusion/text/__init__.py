"""Text encoders, for models that generate images from texts.

`TextTransformer` is trained together with the model, on a vocabulary from
`learn_vocabulary`. `PretrainedTextEncoder` is a frozen encoder of keras_hub.
"""

import keras_hub  # noqa: F401 - First, as it imports our models.

from keras_simple_diffusion.text.pretrained_text_encoder import (
    PretrainedTextEncoder,
)
from keras_simple_diffusion.text.text_encoder import TextEncoder
from keras_simple_diffusion.text.text_transformer import TextTransformer
from keras_simple_diffusion.text.text_transformer import learn_vocabulary

__all__ = [
    "PretrainedTextEncoder",
    "TextEncoder",
    "TextTransformer",
    "learn_vocabulary",
]


def __dir__():
    return __all__
