import time

import keras
import numpy as np

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.metrics.frechet import FrechetReference
from keras_simple_diffusion.metrics.frechet import feature_statistics
from keras_simple_diffusion.utils.errors import InputError


class QuickFrechet(keras.callbacks.Callback):
    """Follow a Fréchet distance of few images while a model trains.

    After an epoch it draws the same number of images from the same noise,
    with the averaged weights, and logs their distance as `quick_fid`. Of few
    images it is too large by much: compare it with itself only.

    After the first epoch it always does so; later only where all of it would
    keep within its share of the time.

    Args:
        statistics: `keras_simple_diffusion.metrics.FeatureStatistics` of real
            images.
        features: what they are of, such as
            `keras_simple_diffusion.metrics.InceptionFeatures`.
        num_images: int. Defaults to `1000`.
        prompts: optional list of strings, for a `TextToImage`; they are
            repeated in turn.
        share: float in (0, 1]. Time for it, as a share of the time since the
            training began. Defaults to `0.05`.
        seed: int. Defaults to `0`.
        **kwargs: further arguments of `DiffusionModel.generate`.

    Attributes:
        seconds: float. Time it has taken so far.

    Example:
    ```python
    features = keras_simple_diffusion.metrics.InceptionFeatures()
    real = keras_simple_diffusion.metrics.feature_statistics(images, features)
    follow = keras_simple_diffusion.evaluation.QuickFrechet(real, features)
    model.fit(images, callbacks=[follow])
    ```
    """

    def __init__(
        self,
        statistics,
        features,
        num_images=1000,
        prompts=None,
        share=0.05,
        seed=0,
        **kwargs,
    ):
        super().__init__()
        if not 0 < share <= 1:
            raise InputError(
                "`share` is a share of the time, above 0 and at most 1. "
                f"Received: share={share}"
            )
        if num_images < 2:
            raise InputError(
                f"`num_images` must be at least 2. Received: {num_images}"
            )
        self.reference = FrechetReference(statistics)
        self.features = features
        self.num_images = num_images
        self.prompts = prompts
        self.share = share
        self.seed = seed
        self.options = kwargs
        self.seconds = self.last = 0.0
        self.began = None

    def on_train_begin(self, logs=None):
        if self.began is None:  # Several calls of `fit` are one training.
            self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        elapsed = time.monotonic() - self.began
        is_due = self.seconds + self.last <= self.share * elapsed
        # All processes take part in drawing.
        if not native.from_main_process(np.array(is_due)):
            return
        started = time.monotonic()
        images = self.model.generate(
            **self._what(), seed=self.seed, **self.options
        )
        statistics = feature_statistics(images, self.features)
        distance = self.reference.distance(statistics, warn=False)
        if logs is not None:
            logs["quick_fid"] = distance
        self.last = time.monotonic() - started
        self.seconds += self.last

    def _what(self):
        """Arguments of `generate`: what to draw."""
        numbers = range(self.num_images)
        if self.prompts is not None:
            count = len(self.prompts)
            return {"prompts": [self.prompts[i % count] for i in numbers]}
        num_classes = self.model.backbone.num_classes
        if num_classes is None:
            return {"num_images": self.num_images}
        return {"labels": [i % num_classes for i in numbers]}
