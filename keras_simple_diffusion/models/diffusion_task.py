import dataclasses
import functools
import inspect

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion import samplers
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.distribution import processes
from keras_simple_diffusion.generation import arguments
from keras_simple_diffusion.generation.arguments import SamplingOptions
from keras_simple_diffusion.generation.arguments import with_sampling_options
from keras_simple_diffusion.generation.denoising import BlockAverages
from keras_simple_diffusion.generation.denoising import Denoiser
from keras_simple_diffusion.generation.denoising import Guidance
from keras_simple_diffusion.generation.denoising import Inpainting
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.generation.denoising import Variation
from keras_simple_diffusion.generation.paths import great_circle
from keras_simple_diffusion.generation.paths import is_seed
from keras_simple_diffusion.generation.programs import InversionProgram
from keras_simple_diffusion.generation.programs import SamplingProgram
from keras_simple_diffusion.generation.programs import warn_unless_finite
from keras_simple_diffusion.models.denoising_trainer import DenoisingTrainer
from keras_simple_diffusion.models.description import as_html
from keras_simple_diffusion.models.description import as_text
from keras_simple_diffusion.models.preset import BuiltinPresets
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.samplers import DDIMSampler
from keras_simple_diffusion.samplers import log_snr_grid
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.files import whole_folder
from keras_simple_diffusion.utils.presets import WEIGHT_FILES

# Arguments that are objects of their own.
_OBJECTS = ("backbone", "text_encoder", "schedule", "loss", "sampler")


class DiffusionTask(DenoisingTrainer):
    """Base class of the diffusion models: it trains, draws and edits.

    Subclasses define the conditions beside what `DenoisingTrainer` asks for:

    - `conditions_for(count, ...)` returns the `Conditions` of `count` images,
      `None` to infer the number. Its parameters after `count` are those of
      `generate` that describe the images. The editing methods accept the
      first as `condition`, and all by name,
    - `null_conditions(conditions)` returns inputs of the network without the
      condition, for a batch of inputs with it.

    Args:
        backbone: see `DiffusionModel`.
        schedule: see `DiffusionModel`.
        loss: see `DiffusionModel`.
        prediction_type: see `DiffusionModel`.
        sampler: see `DiffusionModel`.
        num_steps: see `DiffusionModel`.
        guidance_scale: see `DiffusionModel`.
        stratified: see `DiffusionModel`.
        guidance_interval: tuple `(low, high)` of log-SNRs. The default interval
            of guidance, see `generate`. Defaults to `None`, all of them.
        distilled_steps: int or `None`. The number of steps that the model was
            distilled for, without guidance. It draws with another number, or
            with guidance, only if `allow=True` is passed. Defaults to `None`,
            any number.
        **kwargs: base `keras_hub.models.Task` arguments.
    """

    presets = BuiltinPresets()
    guidance_model = None  # That of `generate` by default.

    def __init__(
        self,
        backbone,
        schedule=None,
        loss=None,
        prediction_type="v",
        sampler=None,
        num_steps=256,
        guidance_scale=1.0,
        stratified=False,
        guidance_interval=None,
        distilled_steps=None,
        **kwargs,
    ):
        super().__init__(
            backbone=backbone,
            schedule=schedule,
            loss=loss,
            prediction_type=prediction_type,
            stratified=stratified,
            **kwargs,
        )
        self.sampler = samplers.get("ddpm" if sampler is None else sampler)
        log_snr_grid(self.schedule, num_steps)  # It checks the number.
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self.guidance_interval = arguments.check_interval(guidance_interval)
        self.distilled_steps = check_integer(
            "distilled_steps", distilled_steps, optional=True
        )

    def compile(
        self,
        optimizer="auto",
        sampler=None,
        ema_decay=0.9999,
        evaluate_averages=False,
        watch=False,
        noise_level_bins=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        **unsupported,
    ):
        """Set how to train and how to sample.

        The loss is an argument of the model, not of this method.

        Args:
            optimizer: a `keras.optimizers.Optimizer`, or its name. `"auto"`
                is the paper's for the U-ViT: Adam at a learning rate of 1e-4
                with `beta_2=0.99`, `epsilon=1e-12` and gradients clipped to a
                norm of 1.
            sampler: a `keras_simple_diffusion.samplers.Sampler`, or its name.
                Defaults to the model's.
            ema_decay: float, a profile such as
                `keras_simple_diffusion.optimizers.PowerProfile`, or a list of
                these: the averages of the weights that are kept, see
                `keras_simple_diffusion.optimizers.AveragedOptimizer`. The
                first is that of `generate` and `save_to_preset`. `None` keeps
                no average. Defaults to `0.9999`.
            evaluate_averages: bool. Whether `evaluate`, and the validation in
                `fit`, measure the loss of the averaged weights, with which
                `generate` draws. Defaults to `False`.
            watch: bool. Whether to record the norms of gradients and weights
                and the first step with gradients that are not finite, see
                `keras_simple_diffusion.optimizers.WatchedOptimizer`. Defaults
                to `False`.
            noise_level_bins: int or `None`. Number of ranges of noise levels
                whose mean losses are in the logs, see
                `keras_simple_diffusion.losses.LevelLoss`. Defaults to `None`.
            run_eagerly: bool, see `keras.Model.compile`. Defaults to `False`.
            steps_per_execution: int, see `keras.Model.compile`. Defaults to
                `1`.
            jit_compile: bool or `"auto"`, see `keras.Model.compile`. On
                PyTorch `True` compiles the blocks of the network, one program
                for all that are alike. Defaults to `"auto"`.
            auto_scale_loss: bool. Whether the loss of a float16 network is
                scaled. Defaults to `True`.
            **unsupported: the other arguments of `keras.Model.compile`, such as
                `metrics`; only `None` is accepted.

        Raises:
            InputError: if an argument is not supported.
        """
        if sampler is not None:
            self.sampler = samplers.get(sampler)
        super().compile(
            optimizer=optimizer,
            ema_decay=ema_decay,
            evaluate_averages=evaluate_averages,
            watch=watch,
            noise_level_bins=noise_level_bins,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
            **unsupported,
        )

    def noisy_batch(self, inputs, training=False):
        batch = super().noisy_batch(inputs, training)
        if self.backbone.guidance_range is not None:
            scales = ops.full_like(batch.time, self.guidance_scale)
            batch.conditions["guidance_scale"] = scales
        return batch

    # === Images ===

    def draw(self, conditions, options, start=None, constraint=None):
        """Draw images under conditions that are inputs of the network.

        All other methods that draw lead here. The values of conditions,
        guidance, seed and weights are arguments of the compiled program. It is
        compiled again for another sampler, clipping, number of steps or batch
        size, and with or without guidance, start, constraint or given noise.

        Args:
            conditions: the `Conditions` of the images.
            options: `SamplingOptions`.
            start: optional `Variation` to start from instead of noise.
            constraint: optional `Inpainting` or `BlockAverages` that the
                predicted clean images satisfy after each step.

        Returns:
            A `uint8` NumPy array of shape `(N, H, W, C)`, or a tuple with
            `return_steps`.
        """
        arguments.check_guidance_model(options.guidance_model, self)
        options = options.at_size_of(constraint if start is None else start)
        options = options.resolve(self, conditions)
        is_guided = arguments.is_guided(self, options.guidance_scale)
        if self.backbone.guidance_range is not None:
            conditions = conditions.at_scale(options.guidance_scale)
        grid = log_snr_grid(self.schedule, options.num_steps, options.spacing)
        if start is not None:
            skipped = start.count_skipped(options.num_steps)
            if skipped == options.num_steps:
                unchanged = start.unchanged(options.return_steps)
                return _present(unchanged, conditions)
            grid = grid[skipped:]
        guide = options.guidance_model
        network = Network(self.backbone, self.prediction_type)
        program = SamplingProgram(
            denoiser=Denoiser(
                network,
                guide and Network(guide.backbone, guide.prediction_type),
                options.clipping,
                constraint and type(constraint),
            ),
            sampler=options.sampler,
            image_size=options.image_size,
            start=start and type(start),
            return_steps=options.return_steps,
        )
        rows = {"indices": options.indices, "inputs": conditions.given}
        # A random seed must be the same in all processes.
        key = native.from_main_process(random.seed_to_key(options.seed))
        shared = {"key": ops.convert_to_tensor(key, "int32"), "grid": grid}
        if is_guided:
            shared["guidance"] = Guidance(
                options.guidance_scale,
                options.guidance_interval,
                options.guidance_rescale,
            ).arrays()
            weak = conditions.null
            if conditions.weak is not None:
                weak = conditions.weak
            rows["null_inputs" if guide is None else "weak_inputs"] = weak
        if options.noise is not None:
            rows["noise"] = options.noise
        if start is not None:
            rows["start"] = start.arrays()
        if constraint is not None:
            rows["constraint"] = constraint.arrays()
        tell = options.step_callback(conditions)
        run = functools.partial(program.run, on_step_end=tell)
        images, is_finite, *steps = self.run_program(
            program, rows, shared, options.batch_size, guide, run
        )
        warn_unless_finite(is_finite)
        return _present((images, *steps) if steps else images, conditions)

    @with_sampling_options
    def edit(
        self,
        images,
        condition=None,
        strength=0.6,
        options=None,
        **conditions_by_name,
    ):
        """Make variations of images: add noise, and denoise from there.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H, W, C)`.
            condition: labels or prompts of the new images, see `generate`.
            strength: float in `[0, 1]`, the share of the steps that is taken.
                0 returns the images, 1 forgets them. Defaults to `0.6`.
            {options}
            **conditions_by_name: conditions by their names in `generate`,
                such as `labels` or `prompts` instead of `condition`.

        Returns:
            The images, see `generate`.

        References:
            - [Meng et al., 2021](https://arxiv.org/abs/2108.01073), sec. 3
        """
        conditions, images = self._conditions_of_images(
            images, options, condition, conditions_by_name
        )
        start = Variation(self._to_float(images), strength)
        return self.draw(conditions, options, start)

    @with_sampling_options
    def inpaint(
        self, images, mask, condition=None, options=None, **conditions_by_name
    ):
        """Redraw a part of images. All other pixels keep their exact values.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H, W, C)`.
            mask: bool array of shape `(H, W)` or `(N, H, W)`, `True` where to
                draw.
            condition: labels or prompts of the images, see `generate`.
            {options}
            **conditions_by_name: see `edit`.

        Returns:
            The images, see `generate`.

        References:
            - [Lugmayr et al., 2022](https://arxiv.org/abs/2201.09865), sec. 4.1
        """
        conditions, images = self._conditions_of_images(
            images, options, condition, conditions_by_name
        )
        known = self._to_float(images)
        mask = conditions.receive(np.asarray(mask)[..., None])[..., 0]
        constraint = Inpainting(known, arguments.to_mask(mask, known.shape))
        return self.draw(conditions, options, constraint=constraint)

    @with_sampling_options
    def upscale(
        self, images, condition=None, options=None, **conditions_by_name
    ):
        """Upscale images.

        After each step the predicted clean images are corrected so that their
        block averages equal the low-resolution input, except where pixels are
        clipped; the network adds finer detail.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H / n, W / n, C)` with a whole number `n`.
            condition: labels or prompts of the images, see `generate`.
            {options}
            **conditions_by_name: see `edit`.

        Returns:
            The images, see `generate`.

        References:
            - [Wang et al., 2022](https://arxiv.org/abs/2212.00490), sec. 3.2
        """
        conditions, images = self._conditions_of_images(
            images, options, condition, conditions_by_name
        )
        shape = options.image_shape(self.backbone)
        small = arguments.to_small_images(images, shape)
        return self.draw(conditions, options, constraint=BlockAverages(small))

    def invert(
        self,
        images,
        condition=None,
        num_steps=None,
        batch_size=64,
        spacing="time",
        **conditions_by_name,
    ):
        """Find the noise that `DDIMSampler` turns into given images.

        It follows the probability flow from the clean to the noisy end.
        `generate` returns to the images, the closer the more steps, if called
        with this noise and number of steps, `sampler="ddim"`,
        `clipping=None` and `guidance_scale=1.0`, which a network that receives
        the scale leaves out.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H, W, C)`.
            condition: labels or prompts of the images, see `generate`.
            num_steps: int. Defaults to the model's.
            batch_size: int. Defaults to `64`.
            spacing: string, as in `generate`. Defaults to `"time"`.
            **conditions_by_name: see `edit`.

        Returns:
            A float32 NumPy array of shape `(N, H, W, C)`, for `noise` of
            `generate`.

        References:
            - [Song et al., 2021](https://arxiv.org/abs/2010.02502), sec. 4.3
        """
        conditions, images = self._conditions_of_images(
            images, SamplingOptions(), condition, conditions_by_name
        )
        return self._invert(images, conditions, num_steps, batch_size, spacing)

    @with_sampling_options
    def interpolate(
        self,
        first,
        second,
        num_images=8,
        condition=None,
        options=None,
        **conditions_by_name,
    ):
        """Draw images between two others.

        Their noises lie on the great circle between the noises of the ends.

        Args:
            first: int, a seed whose first image is one end; or an image, an
                array of shape `(H, W, C)`.
            second: int or array, the other end.
            num_images: int. Defaults to `8`.
            condition: labels or prompts, one for all images or one each, see
                `generate`.
            {options}
            **conditions_by_name: see `edit`.

        The sampler defaults to `DDIMSampler()`, which adds no noise. If an end
        is an image, clipping is off and `guidance_scale` defaults to 1, or for
        a network that receives it to the model's, so that the image is
        reached.

        Returns:
            The images, see `generate`.

        References:
            - [Song et al., 2021](https://arxiv.org/abs/2010.02502), sec. 5.3
        """
        num_images = check_integer("num_images", num_images)
        if options.noise is not None:
            raise InputError("`noise` follows from the ends. Received: noise")
        conditions = self.find_conditions(
            options, None, condition, **conditions_by_name
        ).spread(num_images)
        changes = {}
        if options.sampler is None:
            changes["sampler"] = DDIMSampler()
        takes_scale = self.backbone.guidance_range is not None
        if not (is_seed(first) and is_seed(second)):
            changes["clipping"] = None
            if options.guidance_scale is None and not takes_scale:
                changes["guidance_scale"] = 1.0
        options = dataclasses.replace(options, **changes)
        options = options.resolve(self, conditions)
        if takes_scale:  # The scale of the inversion as well.
            conditions = conditions.at_scale(options.guidance_scale)
        noises = [
            self._noise_of(end, conditions.take([row]), options)
            for end, row in ((first, 0), (second, num_images - 1))
        ]
        noise = great_circle(*noises, num_images)
        return self.draw(conditions, dataclasses.replace(options, noise=noise))

    def find_conditions(self, options, count=None, condition=None, **by_name):
        """Build the conditions of images, for a guidance model as well.

        Args:
            options: `SamplingOptions`.
            count: int or `None`, see `conditions_for`.
            condition: the first of the conditions. Defaults to `None`.
            **by_name: conditions by name.

        Returns:
            `Conditions`.

        Raises:
            InputError: if there is no such condition.
        """
        _, first, *others = inspect.signature(self.conditions_for).parameters
        if condition is not None:
            if by_name.get(first) is not None:
                raise InputError(
                    f"`condition` and `{first}` are the same argument. "
                    "Received: both"
                )
            by_name = {**by_name, first: condition}
        unknown = set(by_name) - {first, *others}
        if unknown:
            raise InputError(
                f"There is no argument '{min(unknown)}'. The conditions of a "
                f"{type(self).__name__} are {', '.join([first, *others])}."
            )
        conditions = self.conditions_for(count, **by_name)
        if self.backbone.guidance_range is not None:
            conditions = conditions.at_scale(self.guidance_scale)
        guide = options.guidance_model
        if guide is None:
            return conditions
        arguments.check_guidance_model(guide, self)
        # Its own text encoder embeds the prompts.
        weak = guide.conditions_for(count, **by_name).given
        return dataclasses.replace(conditions, weak=weak)

    def _conditions_of_images(self, images, options, condition, by_name):
        """Build `Conditions` of given images, and turn portraits."""
        images = arguments.to_array_of_images(images)
        conditions = self.find_conditions(
            options, len(images), condition, **by_name
        )
        return conditions, conditions.receive(images)

    def _to_float(self, images):
        return arguments.to_float_images(images, self.backbone)

    def _noise_of(self, end, conditions, options):
        """Find the noise of the first image of a seed, or of an image."""
        shape = options.image_shape(self.backbone)
        if is_seed(end):
            key = ops.convert_to_tensor(random.seed_to_key(int(end)), "int32")
            keys = random.image_keys(key, ops.zeros(1, dtype="int32"))
            return ops.convert_to_numpy(random.normal(keys, 0, shape))[0]
        end = conditions.receive(np.asarray(end)[None])
        if end.shape[1:] != shape:
            raise InputError(
                "`first` and `second` are each a seed or an image of shape "
                f"{shape}. Received: {end.dtype} of shape {end.shape[1:]}"
            )
        return self._invert(
            end, conditions, options.num_steps, 1, options.spacing
        )[0]

    def _invert(self, images, conditions, num_steps, batch_size, spacing):
        num_steps = self.num_steps if num_steps is None else num_steps
        grid = log_snr_grid(self.schedule, num_steps, spacing)
        images = self._to_float(images)
        return self.run_program(
            InversionProgram(Network(self.backbone, self.prediction_type)),
            {"images": images, "inputs": conditions.given},
            {"grid": ops.flip(grid)},
            batch_size,
        )

    # === Configuration ===

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Write a preset folder, with the averaged weights.

        Of several processes all must call it, and the main one writes.

        Args:
            preset_dir: path of the folder.
            max_shard_size: see `keras_hub.models.Task.save_to_preset`.
        """
        variables = self.own_variables
        with self.averaged_weights(), processes.gathered(variables):
            if not processes.is_main_process():
                return
            with whole_folder(preset_dir, WEIGHT_FILES) as draft:
                super().save_to_preset(draft, max_shard_size=max_shard_size)

    def finished_model(self):
        """Return the model that draws with what has been learned so far."""
        return self

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        optional = {
            "distilled_steps": self.distilled_steps,
            "guidance_interval": self.guidance_interval,
        }
        return {
            **{name: value for name, value in optional.items() if value},
            "backbone": keras.layers.serialize(self.backbone),
            "schedule": serialize(self.schedule),
            "loss": serialize(self.diffusion_loss),
            "prediction_type": self.prediction_type,
            "stratified": self.stratified,
            "name": self.name,
            "sampler": serialize(self.sampler),
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for key in _OBJECTS:
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Load a model from a preset.

        Args:
            preset: string. The name of a built-in preset, a folder written by
                `save_to_preset`, or an `hf://` or `kaggle://` handle.
            load_weights: bool. Whether to load weights, or start from random
                ones. Defaults to `True`.
            **kwargs: overrides of the preset's configuration, such as
                `guidance_scale`.

        Returns:
            A model of this class.
        """
        return Preset.open(preset).load(load_weights, cls, **kwargs)

    __repr__ = as_text
    _repr_html_ = as_html  # In a notebook.


def _present(images, conditions):
    return keras.tree.map_structure(conditions.present, images)
