"""The programs that draw images: what is compiled, and nothing else."""

import dataclasses
from typing import Any

from keras import ops

from keras_simple_diffusion.distribution.batches import split_batch
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.ops.diffusion import to_uint8
from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler
from keras_simple_diffusion.samplers.guidance import classifier_free_guidance
from keras_simple_diffusion.samplers.guidance import clip_dynamic
from keras_simple_diffusion.samplers.guidance import clip_static
from keras_simple_diffusion.samplers.guidance import rescale_guidance

CLIPPINGS = {
    "static": clip_static,
    "dynamic": clip_dynamic,
    None: lambda clean_images: clean_images,
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone and what it predicts.

    Args:
        backbone: a `DiffusionBackbone`.
        prediction_type: string, `"v"`, `"epsilon"` or `"x"`.
    """

    backbone: Any
    prediction_type: str

    def predict(self, noisy_images, log_snr, conditions, training=False):
        """The float32 prediction; conditions are a dict of further inputs."""
        inputs = {
            "noisy_images": noisy_images,
            "log_snr": log_snr,
            **conditions,
        }
        return ops.cast(self.backbone(inputs, training=training), "float32")

    def convert(self, prediction, noisy_images, log_snr, to_type):
        """The prediction in another space."""
        return convert_prediction(
            prediction, noisy_images, log_snr, self.prediction_type, to_type
        )


@dataclasses.dataclass(frozen=True)
class SamplingProgram:
    """Draws one batch of images.

    The fields are what is fixed when the program is compiled. Everything else
    is an argument of the call, so that no result can be stale.

    Args:
        network: a `Network`.
        sampler: a `keras_simple_diffusion.samplers.Sampler`.
        clipping: string or `None`, a key of `CLIPPINGS`.
        guide: a `Network` or `None`, the weaker one of autoguidance.
        return_steps: bool.

    Call arguments:
        inputs: dict of tensors, or of `None` for what is not asked for:
            - `"key"`: int32 `(2,)`, and `"indices"`: int32 `(B,)`,
            - `"grid"`: float32 `(num_steps + 1,)`,
            - `"noise"`: float32 `(B, H, W, C)`, to start from,
            - `"conditions"`: dict of what the network takes beside images
              and noise level, such as `"labels"`, int32 `(B,)`; and
              `"null_conditions"`, the same for the unconditional half,
            - `"guidance_scale"` and `"guidance_rescale"`: float32 scalars,
            - `"guidance_interval"`: float32 `(2,)`, log-SNRs,
            - `"images"`: float32 `(B, H, W, C)`, images to start from with
              noise of the grid's first level,
            - `"known"`: float32 `(B, H, W, C)`, and `"mask"`: bool
              `(B, H, W, 1)`, `False` where the known pixels stay,
            - `"small"`: float32 `(B, h, w, C)`, what the images average to.

    Returns:
        A `uint8` tensor of shape `(B, H, W, C)`; with `return_steps` a tuple
        of it and two of shape `(B, num_steps, H, W, C)`, the noisy and the
        predicted clean images of each step.
    """

    network: Network
    sampler: Any
    clipping: str | None = "static"
    guide: Network | None = None
    return_steps: bool = False

    @property
    def variables(self):
        """The variables that the program reads."""
        variables = list(self.network.backbone.variables)
        guide = self.guide and self.guide.backbone
        if guide is not None and guide is not self.network.backbone:
            variables += guide.variables
        return variables

    def __call__(self, inputs):
        grid, noise = inputs["grid"], inputs["noise"]
        if noise is None:
            keys = random.image_keys(inputs["key"], inputs["indices"])
            shape = self.network.backbone.image_shape
            noise = random.normal(keys, 0, shape)
        if inputs["images"] is not None:
            noise = diffuse(inputs["images"], noise, grid[0])

        def denoise(noisy_images, log_snr):
            prediction = self.predict(noisy_images, log_snr, inputs)
            clean = self.network.convert(prediction, noisy_images, log_snr, "x")
            return _constrain(CLIPPINGS[self.clipping](clean), inputs)

        results = self.sampler.sample(
            denoise,
            noise,
            grid,
            inputs["key"],
            inputs["indices"],
            return_clean=True,
            return_steps=self.return_steps,
        )
        if not self.return_steps:
            return to_uint8(results)
        images, *steps = (to_uint8(result) for result in results)
        return images, *(ops.swapaxes(step, 0, 1) for step in steps)

    def predict(self, noisy_images, log_snr, inputs):
        """The guided prediction, in the network's own space."""
        conditions, scale = inputs["conditions"], inputs["guidance_scale"]
        interval = inputs["guidance_interval"]

        def plain():
            return self.network.predict(noisy_images, log_snr, conditions)

        def guided():
            strong, weak = self._predict_both(noisy_images, log_snr, inputs)
            prediction = classifier_free_guidance(strong, weak, scale)
            if inputs["guidance_rescale"] is None:
                return prediction
            return rescale_guidance(
                prediction, strong, inputs["guidance_rescale"]
            )

        if scale is None:
            return plain()
        if interval is None:
            return guided()
        level = log_snr[0]
        is_inside = ops.logical_and(level >= interval[0], level <= interval[1])
        return ops.cond(is_inside, guided, plain)

    def _predict_both(self, noisy_images, log_snr, inputs):
        conditions = inputs["conditions"]
        if self.guide is not None:
            weak = self.guide.predict(noisy_images, log_snr, conditions)
            space = self.network.prediction_type
            return (
                self.network.predict(noisy_images, log_snr, conditions),
                self.guide.convert(weak, noisy_images, log_snr, space),
            )

        # Both halves in one batch, split over the devices anew.
        def join(strong, weak):
            return split_batch(ops.concatenate([strong, weak]))

        prediction = self.network.predict(
            join(noisy_images, noisy_images),
            join(log_snr, log_snr),
            {
                name: join(value, inputs["null_conditions"][name])
                for name, value in conditions.items()
            },
        )
        return ops.split(prediction, 2)


@dataclasses.dataclass(frozen=True)
class InversionProgram:
    """Finds the noise that DDIM turns into given images.

    Args:
        network: a `Network`.

    Call arguments:
        inputs: dict with `"images"`: float32 `(B, H, W, C)`, `"conditions"`:
            as above, and `"grid"`: float32 `(num_steps + 1,)`, from the clean
            to the noisy end.

    Returns:
        A float32 tensor of shape `(B, H, W, C)`.
    """

    network: Network

    @property
    def variables(self):
        """The variables that the program reads."""
        return self.network.backbone.variables

    def __call__(self, inputs):
        def denoise(noisy_images, log_snr):
            prediction = self.network.predict(
                noisy_images, log_snr, inputs["conditions"]
            )
            return self.network.convert(prediction, noisy_images, log_snr, "x")

        images, grid = inputs["images"], inputs["grid"]
        start = diffuse(images, ops.zeros_like(images), grid[0])
        return DDIMSampler().sample(denoise, start, grid)


def _constrain(clean, inputs):
    """The nearest images that agree with what is known of them."""
    if inputs["mask"] is not None:
        clean = ops.where(inputs["mask"], clean, inputs["known"])
    if inputs["small"] is not None:
        small = inputs["small"]
        factor = clean.shape[1] // small.shape[1]
        average = ops.average_pool(
            clean, factor, strides=factor, data_format="channels_last"
        )
        error = ops.repeat(small - average, factor, axis=1)
        clean = clean + ops.repeat(error, factor, axis=2)
    return clean
