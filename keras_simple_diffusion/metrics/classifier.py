import hashlib
import pathlib

import keras
from keras import ops

from keras_simple_diffusion.metrics.image_features import ImageFeatures
from keras_simple_diffusion.utils.errors import InputError


class ClassifierOutputs(ImageFeatures):
    """What a Keras classifier says of images.

    The share of generated images that are read as the class asked for tells
    whether a model heeds its labels, which a Fréchet distance does not.

    Args:
        model: path of a `.keras` file: a model of float images in
            `[0, 255]`, of the size and channels of the generated ones, that
            returns one number a class, the largest for the class it reads.
        batch_size: int. Images in one pass. Defaults to `32`.

    Attributes:
        name: string that changes whenever the outputs do.
        size: int. Number of classes.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`.

    Returns:
        A float32 array of shape `(N, size)`.

    Example:
    >>> outputs = keras_simple_diffusion.metrics.ClassifierOutputs("a.keras")
    >>> (outputs(images).argmax(axis=1) == labels).mean()
    """

    def __init__(self, model, batch_size=32):
        path = pathlib.Path(model)
        if path.suffix != ".keras" or not path.is_file():
            raise InputError(
                f"A classifier is a file of a Keras model, .keras. Received: "
                f"'{path}'"
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            self.model = keras.models.load_model(path, compile=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"'{path}' cannot be loaded as a Keras model: "
                f"{str(error).splitlines()[0]}"
            ) from error
        shape = self.model.output_shape
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise InputError(
                "A classifier returns one number a class. Received: '"
                f"{path}', whose output has the shape {shape}"
            )

        def classify(images):
            images = ops.cast(images, "float32")
            return self.model(images, training=False)

        super().__init__(
            f"classifier-{digest[:16]}",
            shape[1],
            batch_size,
            classify,
            self.model.variables,
        )

    def __call__(self, images):
        expected = self.model.input_shape[1:]
        if tuple(images.shape[1:]) != tuple(expected):
            raise InputError(
                f"The classifier reads images of shape {expected}. Received: "
                f"{images.shape[1:]}"
            )
        return super().__call__(images)
