import keras
from keras import ops

from keras_simple_diffusion.metrics.batched import PictureFeatures
from keras_simple_diffusion.metrics.inception_network import inception
from keras_simple_diffusion.metrics.inception_weights import load_inception
from keras_simple_diffusion.metrics.resizing import RESIZINGS
from keras_simple_diffusion.metrics.resizing import resize_pictures
from keras_simple_diffusion.utils.errors import InputError

_SIZE = 299


class InceptionFeatures(PictureFeatures):
    """The 2,048 features that FID, KID and precision and recall are of.

    It is the Inception network of 2015-12-05 with its quirks. All pictures
    go through it in batches of one size, so that a picture has the same
    features whatever batches it comes in.

    Args:
        weights: path of the published `.pth` file or of a `.npz`. Defaults to
            the published one, downloaded once.
        resize: string. How pictures are made 299 pixels high and wide:
            `"original"` as the first FID did, in TensorFlow 1, or `"pytorch"`
            as pytorch-fid does. Their numbers differ by some percent, so they
            must not be compared. Defaults to `"original"`.
        batch_size: int. Pictures in one pass. Defaults to `32`.

    Attributes:
        name: string that changes whenever the features do.
        logits_kernel: float32 array of shape `(2048, num_classes)` for
            `inception_score`, or `None` where the file has no logits.

    Call arguments:
        pictures: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.

    Returns:
        A float32 array of shape `(N, 2048)`.

    Example:
    >>> features = keras_simple_diffusion.metrics.InceptionFeatures()
    >>> features(pictures).shape
    (16, 2048)

    References:
        - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500)
    """

    def __init__(self, weights=None, resize="original", batch_size=32):
        if resize not in RESIZINGS:
            raise InputError(
                f"`resize` must be one of {RESIZINGS}. Received: "
                f"resize={resize!r}"
            )
        arrays, self.logits_kernel, digest = load_inception(weights)
        self.resize = resize
        self._variables = {
            name: keras.Variable(array, dtype="float32", trainable=False)
            for name, array in arrays.items()
        }
        super().__init__(
            f"inception-{digest[:16]}-{resize}",
            2048,
            batch_size,
            self._compute,
            list(self._variables.values()),
        )

    def _compute(self, pictures):
        images = resize_pictures(pictures, _SIZE, self.resize)
        if images.shape[-1] == 1:
            images = ops.repeat(images, 3, axis=-1)
        return inception(images, self._variables)
