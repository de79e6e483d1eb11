from keras_simple_diffusion.text.pretrained_text_encoder import (
    PretrainedTextEncoder as PretrainedTextEncoder,
)
from keras_simple_diffusion.text.text_encoder import TextEncoder as TextEncoder
from keras_simple_diffusion.text.text_transformer import (
    TextTransformer as TextTransformer,
)
from keras_simple_diffusion.text.vocabulary import (
    learn_vocabulary as learn_vocabulary,
)
