"""Outputs of a classifier as features of images."""

import pathlib

import keras
from keras import ops

from keras_simple_diffusion.metrics.image_features import ImageFeatures
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import sha256


class ClassifierOutputs(ImageFeatures):
    """Outputs of a Keras image classifier.

    The fraction of generated images that are classified as the class asked
    for measures how well a model follows its labels. A Fréchet distance does
    not measure that.

    Args:
        model: path of a `.keras` file. The model takes float images in
            `[0, 255]` with the shape of the generated ones, and returns one
            score per class, the largest for the predicted class.
        batch_size: int. Images in one pass. Defaults to `32`.

    Attributes:
        name: string that changes whenever the outputs do.
        size: int. Number of classes.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`.

    Returns:
        A float32 array of shape `(N, size)`.

    Example:
    >>> outputs = keras_simple_diffusion.metrics.ClassifierOutputs(
    ...     "classifier.keras"
    ... )
    >>> accuracy = (outputs(images).argmax(axis=1) == labels).mean()
    """

    def __init__(self, model, batch_size=32):
        path = pathlib.Path(model)
        if path.suffix != ".keras" or not path.is_file():
            raise InputError(
                "A classifier must be a .keras file of a Keras model. "
                f"Received: '{path}'"
            )
        digest = sha256(path.read_bytes())
        try:
            self.model = keras.models.load_model(path, compile=False)
        except Exception as error:  # A foreign file can fail in any way.
            reason = str(error).partition("\n")[0][:300]
            raise InputError(
                f"'{path}' cannot be loaded as a Keras model: "
                f"{type(error).__name__}: {reason}"
            ) from error
        shape = self.model.output_shape
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise InputError(
                "A classifier must return one score per class. Received: "
                f"'{path}' with outputs of shape {shape}"
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
                f"The classifier takes images of shape {expected}. Received: "
                f"{images.shape[1:]}"
            )
        return super().__call__(images)
