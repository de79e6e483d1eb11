"""Denoising with a trained network: prediction, guidance, constraints.

`Guidance`, the starts and the constraints have two sides. An instance holds
the values of one call; `arrays` returns them for compiled code. The static
method `apply` is the compiled code, which receives these arrays, so that a
program depends on the classes in use and never on the values.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_simple_diffusion.backend.compilation import cond
from keras_simple_diffusion.distribution.batches import split_batch
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.samplers.guidance import classifier_free_guidance
from keras_simple_diffusion.samplers.guidance import clip_dynamic
from keras_simple_diffusion.samplers.guidance import clip_static
from keras_simple_diffusion.samplers.guidance import rescale_guidance
from keras_simple_diffusion.utils.errors import check_number

CLIPPINGS = {
    "static": clip_static,
    "dynamic": clip_dynamic,
    None: lambda clean_images: clean_images,
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone and the space of its predictions.

    Args:
        backbone: a `DiffusionBackbone`.
        prediction_type: string, the space, such as `"v"`; see
            `keras_simple_diffusion.ops.convert_prediction`.
    """

    backbone: Any
    prediction_type: str

    def predict(self, noisy_images, log_snr, inputs, training=False):
        """Predict from noisy images.

        Args:
            noisy_images: float32 tensor of shape `(B, H, W, C)`.
            log_snr: float32 tensor of shape `(B,)`.
            inputs: dict of the network's other inputs, such as labels.
            training: bool. Defaults to `False`.

        Returns:
            The prediction, a float32 tensor of shape `(B, H, W, C)`.
        """
        inputs = {"noisy_images": noisy_images, "log_snr": log_snr, **inputs}
        return ops.cast(self.backbone(inputs, training=training), "float32")

    def convert(self, prediction, noisy_images, log_snr, to_type):
        """Convert a prediction of the network to another space."""
        return convert_prediction(
            prediction, noisy_images, log_snr, self.prediction_type, to_type
        )


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Guidance of the prediction away from that of a weaker model.

    Args:
        scale: float, the paper's `1 + eta`.
        interval: optional tuple `(low, high)` of log-SNRs. Outside of it the
            network predicts alone.
        rescale: optional float in `[0, 1]`, see
            `keras_simple_diffusion.samplers.rescale_guidance`.
    """

    scale: float
    interval: tuple | None = None
    rescale: float | None = None

    def arrays(self):
        """Return the values as a dict of float32 tensors."""
        return {
            name: ops.convert_to_tensor(value, "float32")
            for name, value in dataclasses.asdict(self).items()
            if value is not None
        }

    @staticmethod
    def apply(predict, predict_both, log_snr, arrays):
        """Predict with guidance.

        Args:
            predict: function without arguments that returns the prediction
                of the network alone.
            predict_both: function without arguments that returns both
                predictions, of the network and of the weaker model.
            log_snr: float32 tensor of shape `(B,)`, the same for all images.
            arrays: see `arrays`.

        Returns:
            The guided prediction, a float32 tensor.
        """

        def guided():
            strong, weak = predict_both()
            prediction = classifier_free_guidance(strong, weak, arrays["scale"])
            if "rescale" not in arrays:
                return prediction
            return rescale_guidance(prediction, strong, arrays["rescale"])

        if "interval" not in arrays:
            return guided()
        low, high = arrays["interval"][0], arrays["interval"][1]
        is_inside = ops.logical_and(log_snr[0] >= low, log_snr[0] <= high)
        return cond(is_inside, guided, predict)


# === Starts: where the first step begins ===


@dataclasses.dataclass(frozen=True, eq=False)
class Variation:
    """Start from given images with noise, part of the way to the clean end.

    Args:
        images: float32 array of shape `(N, H, W, C)` in [-1, 1].
        strength: float in `[0, 1]`, the share of the steps that is taken.
    """

    images: np.ndarray
    strength: float

    @property
    def image_size(self):
        """Height and width of the images."""
        return self.images.shape[1:3]

    def count_skipped(self, num_steps):
        """Number of steps of a grid, counted from the noisy end, to skip."""
        check_number("strength", self.strength, at_least=0.0, at_most=1.0)
        if self.strength == 0.0:
            return num_steps
        return min(round((1.0 - self.strength) * num_steps), num_steps - 1)

    def unchanged(self, return_steps):
        """Return the images without any step, see `SamplingOptions`."""
        images = np.clip(np.round((self.images + 1.0) * 127.5), 0, 255)
        images = images.astype("uint8")
        if not return_steps:
            return images
        none = np.zeros((len(images), 0, *images.shape[1:]), "uint8")
        return images, none, none

    def arrays(self):
        """Return the arrays with one row per image."""
        return {"images": self.images}

    @staticmethod
    def apply(noise, log_snr, arrays):
        """Return noisy images at the grid's first log-SNR."""
        return diffuse(arrays["images"], noise, log_snr)


# === Constraints: known properties of the clean images ===


@dataclasses.dataclass(frozen=True, eq=False)
class Inpainting:
    """Constraint of some pixels to known values.

    Args:
        known: float32 array of shape `(N, H, W, C)` in [-1, 1].
        mask: bool array of shape `(N, H, W, 1)`, `False` where the known
            pixels stay.

    References:
        - [Lugmayr et al., 2022](https://arxiv.org/abs/2201.09865), sec. 4.1
    """

    known: np.ndarray
    mask: np.ndarray

    @property
    def image_size(self):
        """Height and width of the images."""
        return self.known.shape[1:3]

    def arrays(self):
        """Return the arrays with one row per image."""
        return {"known": self.known, "mask": self.mask}

    @staticmethod
    def apply(clean_images, arrays):
        """Return the nearest images that satisfy the constraint."""
        return ops.where(arrays["mask"], clean_images, arrays["known"])


@dataclasses.dataclass(frozen=True, eq=False)
class BlockAverages:
    """Constraint of the averages over blocks of pixels to small images.

    Args:
        small: float32 array of shape `(N, H / n, W / n, C)` in [-1, 1], with
            a whole number `n`.

    References:
        - [Wang et al., 2022](https://arxiv.org/abs/2212.00490), sec. 3.2
    """

    small: np.ndarray
    image_size = None  # That of the options.

    def arrays(self):
        """Return the arrays with one row per image."""
        return {"small": self.small}

    @staticmethod
    def apply(clean_images, arrays):
        """Return the nearest images that satisfy the constraint."""
        small = arrays["small"]
        factor = clean_images.shape[1] // small.shape[1]
        average = ops.average_pool(
            clean_images, factor, strides=factor, data_format="channels_last"
        )
        error = ops.repeat(small - average, factor, axis=1)
        return clean_images + ops.repeat(error, factor, axis=2)


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """Prediction of clean images as a sampler needs it.

    The fields are fixed when a program is compiled. Everything else is an
    argument of the call, so that no result can be stale.

    Args:
        network: a `Network`.
        guide: a `Network` or `None`, the weaker model of autoguidance.
            Without it the network itself is the weaker model, under the null
            condition.
        clipping: string or `None`, a key of `CLIPPINGS`.
        constraint: class of the constraint, such as `Inpainting`, or `None`.

    Call arguments:
        noisy_images: float32 tensor of shape `(B, H, W, C)`.
        log_snr: float32 tensor of shape `(B,)`, the same for all images.
        rows: dict of what each image has: `"inputs"`; with guidance
            `"weak_inputs"` of a guide, or else `"null_inputs"`; and
            the arrays of the constraint in `"constraint"`.
        guidance: the arrays of a `Guidance`, or `None`.

    Returns:
        The predicted clean images, a float32 tensor of shape `(B, H, W, C)`.
    """

    network: Network
    guide: Network | None = None
    clipping: str | None = None
    constraint: type | None = None

    @property
    def variables(self):
        """The variables that are read, those of the network first."""
        variables = list(self.network.backbone.variables)
        if self.guide and self.guide.backbone is not self.network.backbone:
            variables += self.guide.backbone.variables
        return variables

    def __call__(self, noisy_images, log_snr, rows, guidance=None):
        prediction = self.predict(noisy_images, log_snr, rows, guidance)
        clean = self.network.convert(prediction, noisy_images, log_snr, "x")
        clean = CLIPPINGS[self.clipping](clean)
        if self.constraint is None:
            return clean
        return self.constraint.apply(clean, rows["constraint"])

    def predict(self, noisy_images, log_snr, rows, guidance=None):
        """Predict in the network's own space, with guidance if there is any."""
        inputs = rows["inputs"]

        def predict():
            return self.network.predict(noisy_images, log_snr, inputs)

        def predict_both():
            if self.guide is None:
                return self._predict_halves(noisy_images, log_snr, rows)
            weak = self.guide.predict(
                noisy_images, log_snr, rows["weak_inputs"]
            )
            weak = self.guide.convert(
                weak, noisy_images, log_snr, self.network.prediction_type
            )
            return predict(), weak

        if guidance is None:
            return predict()
        return Guidance.apply(predict, predict_both, log_snr, guidance)

    def _predict_halves(self, noisy_images, log_snr, rows):
        """Predict with and without the condition, in one batch."""

        def join(strong, weak):
            # Split over the devices anew.
            return split_batch(ops.concatenate([strong, weak]))

        prediction = self.network.predict(
            join(noisy_images, noisy_images),
            join(log_snr, log_snr),
            {
                name: join(value, rows["null_inputs"][name])
                for name, value in rows["inputs"].items()
            },
        )
        return ops.split(prediction, 2)
