import numpy as np
from keras import ops

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.distribution.batches import run_batches
from keras_simple_diffusion.generation import arguments
from keras_simple_diffusion.generation.programs import Network
from keras_simple_diffusion.generation.programs import SamplingProgram
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.samplers.sampler import log_snr_grid


class Drawing:
    """Draws images under given conditions, batch by batch.

    A base class of tasks that have `backbone`, `schedule`, `prediction_type`,
    `sampler`, `num_steps`, `guidance_scale`, `jit_compile` and
    `averaged_weights()`.
    """

    def draw(
        self,
        num_images,
        conditions,
        null_conditions,
        num_steps=None,
        guidance_scale=None,
        seed=None,
        batch_size=64,
        noise=None,
        indices=None,
        sampler=None,
        spacing="time",
        guidance_interval=None,
        guidance_model=None,
        guidance_rescale=None,
        clipping="static",
        return_steps=False,
        given=None,
    ):
        """Draw images, with the averaged weights.

        Image `i` depends on the seed and on `i` alone, not on the batch it
        is drawn in nor on the backend, up to float rounding. One program is
        compiled for a sampler, a number of steps and a batch size; conditions,
        guidance and seed are its arguments.

        Args:
            num_images: int.
            conditions: dict of arrays, one row an image: what the network
                takes beside images and noise level.
            null_conditions: dict of the same for the unconditional half of
                guidance.
            num_steps: int. Number of steps, each of one network evaluation
                (two for `HeunSampler`). Defaults to the model's.
            guidance_scale: float. 1 is no guidance, at half the cost.
                Defaults to the model's.
            seed: int. Defaults to a random one.
            batch_size: int. Number of images drawn at once. Defaults to
                `64`.
            noise: optional float array of shape `(num_images, H, W, C)`, the
                standard normal noise to start from.
            indices: optional list of ints, the numbers `i` of the images.
                Defaults to `0, 1, ...`; others draw a part of a larger set.
            sampler: a `keras_simple_diffusion.samplers.Sampler`. Defaults to
                the model's.
            spacing: string. How the steps are spaced, see
                `keras_simple_diffusion.samplers.log_snr_grid`. Defaults to
                `"time"`.
            guidance_interval: optional tuple `(low, high)` of log-SNRs.
                Outside of it there is no guidance, and no cost of it.
            guidance_model: optional `DiffusionModel`, a weaker one that takes
                the place of the unconditional half (autoguidance).
            guidance_rescale: optional float in `[0, 1]`, see
                `keras_simple_diffusion.samplers.rescale_guidance`.
            clipping: string or `None`. How predicted clean images are kept
                in range: `"static"`, `"dynamic"`, see
                `keras_simple_diffusion.samplers.clip_dynamic`, or not at all.
                Defaults to `"static"`.
            return_steps: bool. Whether to return what each step saw as well.
            given: optional dict of what is known of the images, see
                `SamplingProgram`, and the `"strength"` of an edit.

        Returns:
            A `uint8` NumPy array of shape `(num_images, H, W, C)`. With
            `return_steps` a tuple of it, the noisy images that each step
            started from and the clean ones that it predicted, both of shape
            `(num_images, num_steps, H, W, C)`.
        """
        given = given or {}
        if guidance_scale is None:
            guidance_scale = self.guidance_scale
        if num_steps is None:
            num_steps = self.num_steps
        indices = arguments.to_indices(indices, num_images)
        arguments.check_sampler(sampler)
        is_conditional = bool(conditions)
        arguments.check_guidance(guidance_scale, is_conditional, guidance_model)
        arguments.check_guidance_model(guidance_model, self)
        arguments.check_guidance_options(guidance_interval, guidance_rescale)
        noise = arguments.to_noise(noise, num_images, self.backbone.image_shape)
        arguments.check_clipping(clipping)
        grid = log_snr_grid(self.schedule, num_steps, spacing)
        skipped = arguments.count_skipped(given.get("strength"), num_steps)
        if skipped == num_steps:
            images = arguments.to_bytes(given["images"])
            none = np.zeros((num_images, 0, *images.shape[1:]), "uint8")
            return (images, none, none) if return_steps else images
        if guidance_scale == 1.0:
            guidance_scale = guidance_interval = guidance_rescale = None
        # A random seed must be the same in all processes.
        key = native.from_main_process(
            random.seed_to_key(arguments.to_seed(seed))
        )
        guide = None
        if guidance_model is not None:
            guide = Network(
                guidance_model.backbone, guidance_model.prediction_type
            )
        program = SamplingProgram(
            network=Network(self.backbone, self.prediction_type),
            sampler=sampler or self.sampler,
            clipping=clipping,
            guide=guide,
            return_steps=return_steps,
        )
        by_image = {
            "indices": indices,
            "conditions": conditions,
            "null_conditions": null_conditions,
            "noise": noise,
            "images": given.get("images"),
            "known": given.get("known"),
            "mask": given.get("mask"),
            "small": given.get("small"),
        }
        shared = {
            "key": ops.convert_to_tensor(key, "int32"),
            "grid": grid[skipped:],
            "guidance_scale": _to_tensor(guidance_scale),
            "guidance_rescale": _to_tensor(guidance_rescale),
            "guidance_interval": _to_tensor(guidance_interval),
        }
        with self.averaged_weights():
            if guidance_model is None:
                return self._run(program, by_image, shared, batch_size)
            with guidance_model.averaged_weights():
                return self._run(program, by_image, shared, batch_size)

    def _run(self, program, by_image, shared, batch_size):
        """Run a program batch by batch, compiled once."""
        if program not in self.compiled_programs:
            self.compiled_programs[program] = compile_function(
                program.__call__, program.variables, bool(self.jit_compile)
            )
        function = self.compiled_programs[program]
        return run_batches(function, by_image, shared, batch_size)


def _to_tensor(value):
    return None if value is None else ops.convert_to_tensor(value, "float32")
