"""Images to train on: folders, zip files, TensorFlow Datasets, arrays.

`open_data` opens one split as an `ImageSource` and `open_splits` both; `pack`
writes images into ArrayRecord files, which are read fast; `mix` joins sources;
`put_into_buckets` keeps several shapes of images;
`training_batches` makes shuffled batches for `fit` of a source. `load_images`,
`load_digits` and `load_vehicles` read a whole dataset into arrays. An
`EmbeddingCache` stores text embeddings beside the images.
"""

from keras_simple_diffusion.data.buckets import BucketedSource
from keras_simple_diffusion.data.buckets import bucket_sizes
from keras_simple_diffusion.data.buckets import put_into_buckets
from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.data.embedding_cache import EmbeddingCache
from keras_simple_diffusion.data.encoded_source import FileSource
from keras_simple_diffusion.data.loading import Images
from keras_simple_diffusion.data.loading import load_digits
from keras_simple_diffusion.data.loading import load_images
from keras_simple_diffusion.data.loading import load_vehicles
from keras_simple_diffusion.data.loading import open_data
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.data.mixtures import mix
from keras_simple_diffusion.data.packing import pack
from keras_simple_diffusion.data.pipeline import Batches
from keras_simple_diffusion.data.pipeline import training_batches
from keras_simple_diffusion.data.sources import ArraySource
from keras_simple_diffusion.data.sources import EmbeddedSource
from keras_simple_diffusion.data.sources import ImageSource
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.tfds_source import TFDSSource

__all__ = [
    "ArraySource",
    "Batches",
    "BucketedSource",
    "Decoder",
    "EmbeddedSource",
    "EmbeddingCache",
    "FileSource",
    "ImageSource",
    "Images",
    "MissingSplitError",
    "TFDSSource",
    "bucket_sizes",
    "load_digits",
    "load_images",
    "load_vehicles",
    "mix",
    "open_data",
    "open_splits",
    "pack",
    "put_into_buckets",
    "training_batches",
]


def __dir__():
    return __all__
