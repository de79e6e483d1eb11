from keras_simple_diffusion.data.embedding_cache import (
    EmbeddingCache as EmbeddingCache,
)
from keras_simple_diffusion.data.loading import Pictures as Pictures
from keras_simple_diffusion.data.loading import load_digits as load_digits
from keras_simple_diffusion.data.loading import load_pictures as load_pictures
from keras_simple_diffusion.data.loading import open_data as open_data
from keras_simple_diffusion.data.pipeline import (
    training_batches as training_batches,
)
from keras_simple_diffusion.data.sources import ArraySource as ArraySource
from keras_simple_diffusion.data.sources import EmbeddedSource as EmbeddedSource
