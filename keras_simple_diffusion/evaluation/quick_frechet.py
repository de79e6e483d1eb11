"""A Fréchet distance of few images during training."""

import time

import keras
import numpy as np

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.evaluation.image_sets import Requests
from keras_simple_diffusion.metrics.frechet import FrechetReference
from keras_simple_diffusion.metrics.frechet import feature_statistics
from keras_simple_diffusion.utils.errors import InputError


class QuickFrechet(keras.callbacks.Callback):
    """Callback that follows a Fréchet distance while a model trains.

    After an epoch it draws the same images from the same noise, with the
    averaged weights, and logs their distance as `quick_fid`. With few images
    the distance is biased upwards: compare it only with earlier values.

    It is computed after the first epoch. Later it is skipped whenever all
    computations together would exceed a given share of the training time.

    Args:
        statistics: `keras_simple_diffusion.metrics.FeatureStatistics` of real
            images.
        features: function of images that these were computed with, such as
            `keras_simple_diffusion.metrics.InceptionFeatures`.
        num_images: int. Defaults to `1000`.
        prompts: list of strings, required for a `TextToImage`. Fewer prompts
            than images are repeated in turn; from more prompts than images,
            evenly spaced ones are chosen.
        share: float in (0, 1]. Largest fraction of the time since training
            began that it may take. Defaults to `0.05`.
        seed: int. Defaults to `0`.
        **kwargs: further arguments of `DiffusionModel.generate`.

    Attributes:
        seconds: float. Time that it has taken so far.

    Example:
    ```python
    # `features` may be `keras_simple_diffusion.metrics.InceptionFeatures()`.
    real = keras_simple_diffusion.metrics.feature_statistics(images, features)
    quick = keras_simple_diffusion.evaluation.QuickFrechet(
        real, features, num_images=20
    )
    model.fit(data, callbacks=[quick])
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
                "`share` must be a fraction of the time, in (0, 1]. Received: "
                f"share={share}"
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
        # All processes draw, or none.
        if not native.from_main_process(np.array(is_due)):
            return
        started = time.monotonic()
        model = self.model.finished_model()  # Of a distillation, the student.
        requests = Requests.of(model, self.num_images, self.prompts)
        images = model.generate(
            **requests.arguments(), seed=self.seed, **self.options
        )
        statistics = feature_statistics(images, self.features)
        distance = self.reference.distance(statistics, warn=False)
        if logs is not None:
            logs["quick_fid"] = distance
        self.last = time.monotonic() - started
        self.seconds += self.last
