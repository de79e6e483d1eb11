from keras_simple_diffusion.data.embedding_cache import (
    EmbeddingCache as EmbeddingCache,
)
from keras_simple_diffusion.data.loading import Images as Images
from keras_simple_diffusion.data.loading import load_digits as load_digits
from keras_simple_diffusion.data.loading import load_images as load_images
from keras_simple_diffusion.data.loading import open_data as open_data
from keras_simple_diffusion.data.pipeline import (
    training_batches as training_batches,
)
from keras_simple_diffusion.data.sources import ArraySource as ArraySource
from keras_simple_diffusion.data.sources import EmbeddedSource as EmbeddedSource
