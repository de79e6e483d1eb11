from keras_simple_diffusion.data.digits import load_digits as load_digits
from keras_simple_diffusion.data.embedded_source import (
    EmbeddedSource as EmbeddedSource,
)
from keras_simple_diffusion.data.embedding_cache import (
    EmbeddingCache as EmbeddingCache,
)
from keras_simple_diffusion.data.named import open_data as open_data
from keras_simple_diffusion.data.pictures import Pictures as Pictures
from keras_simple_diffusion.data.pictures import load_pictures as load_pictures
from keras_simple_diffusion.data.pipeline import (
    training_batches as training_batches,
)
from keras_simple_diffusion.data.sources import ArraySource as ArraySource
