from keras_simple_diffusion.data.digits import load_digits as load_digits
from keras_simple_diffusion.data.named import load_named as load_named
from keras_simple_diffusion.data.pictures import Pictures as Pictures
from keras_simple_diffusion.data.pictures import load_pictures as load_pictures
from keras_simple_diffusion.data.pipeline import (
    training_batches as training_batches,
)
