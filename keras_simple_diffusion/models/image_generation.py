import numpy as np
from keras import ops

from keras_simple_diffusion.distribution import native
from keras_simple_diffusion.distribution.batches import num_batch_parts
from keras_simple_diffusion.distribution.batches import split_batch
from keras_simple_diffusion.models import generation
from keras_simple_diffusion.models.compilation import compile_function
from keras_simple_diffusion.models.sampling_program import InversionProgram
from keras_simple_diffusion.models.sampling_program import Network
from keras_simple_diffusion.models.sampling_program import SamplingProgram
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler
from keras_simple_diffusion.samplers.grids import log_snr_grid
from keras_simple_diffusion.utils.errors import InputError


class ImageGeneration:
    """The part of a diffusion model that draws and edits pictures.

    A base class of tasks that have `backbone`, `schedule`, `prediction_type`,
    `sampler`, `num_steps`, `guidance_scale`, `class_names`, `jit_compile` and
    `averaged_weights()`. All of it is done with the averaged weights.
    """

    def generate(
        self,
        num_images=None,
        labels=None,
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
        _given=None,
    ):
        """Draw pictures, with the averaged weights.

        Picture `i` depends on the seed and on `i` alone, not on the batch it
        is drawn in nor on the backend, up to float rounding. One program is
        compiled for a sampler, a number of steps and a batch size; labels,
        guidance and seed are its arguments.

        Args:
            num_images: int. Defaults to the number of labels, or 1.
            labels: list of ints or class names, one a picture. Label
                `num_classes` is the null label. Required if the backbone has
                classes.
            num_steps: int. Number of steps, each of one network evaluation
                (two for `HeunSampler`). Defaults to the model's.
            guidance_scale: float. 1 is no guidance, at half the cost.
                Defaults to the model's.
            seed: int. Defaults to a random one.
            batch_size: int. Number of pictures drawn at once. Defaults to
                `64`.
            noise: optional float array of shape `(num_images, H, W, C)`, the
                standard normal noise to start from.
            indices: optional list of ints, the numbers `i` of the pictures.
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
            clipping: string or `None`. How predicted clean pictures are kept
                in range: `"static"`, `"dynamic"`, see
                `keras_simple_diffusion.samplers.clip_dynamic`, or not at all.
                Defaults to `"static"`.
            return_steps: bool. Whether to return what each step saw as well.

        Returns:
            A `uint8` NumPy array of shape `(num_images, H, W, C)`. With
            `return_steps` a tuple of it, the noisy pictures that each step
            started from and the clean ones that it predicted, both of shape
            `(num_images, num_steps, H, W, C)`.

        Example:
        >>> model.generate(labels=[3] * 16, num_steps=64, guidance_scale=2.0)
        """
        given = _given or {}
        if guidance_scale is None:
            guidance_scale = self.guidance_scale
        if num_steps is None:
            num_steps = self.num_steps
        num_classes = self.backbone.num_classes
        labels = generation.find_labels(labels, num_classes, self.class_names)
        num_images = generation.count_images(num_images, labels)
        indices = generation.to_indices(indices, num_images)
        generation.check_sampler(sampler)
        generation.check_guidance(guidance_scale, num_classes, guidance_model)
        generation.check_guidance_model(guidance_model, self)
        generation.check_guidance_options(guidance_interval, guidance_rescale)
        noise = generation.to_noise(
            noise, num_images, self.backbone.image_shape
        )
        generation.check_clipping(clipping)
        grid = log_snr_grid(self.schedule, num_steps, spacing)
        skipped = generation.count_skipped(given.get("strength"), num_steps)
        if skipped == num_steps:
            pictures = generation.to_bytes(given["images"])
            none = np.zeros((num_images, 0, *pictures.shape[1:]), "uint8")
            return (pictures, none, none) if return_steps else pictures
        if guidance_scale == 1.0:
            guidance_scale = guidance_interval = guidance_rescale = None
        # A random seed must be the same in all processes.
        key = native.from_main_process(
            random.seed_to_key(generation.to_seed(seed))
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
        by_picture = {
            "indices": indices,
            "labels": labels,
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
                return self._run(program, by_picture, shared, batch_size)
            with guidance_model.averaged_weights():
                return self._run(program, by_picture, shared, batch_size)

    def edit(self, images, labels=None, strength=0.6, **kwargs):
        """Make variations of pictures: add noise, and draw anew from there.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H, W, C)`.
            labels: list of ints or class names, what the pictures shall
                become. Required if the backbone has classes.
            strength: float in `[0, 1]`, the share of the steps that is drawn
                anew. 0 returns the pictures, 1 forgets them. Defaults to
                `0.6`.
            **kwargs: further arguments of `generate`.

        Returns:
            What `generate` returns.

        Example:
        >>> model.edit(photos, strength=0.5, seed=0)
        """
        images = generation.to_pictures(images, self.backbone.image_shape)
        given = {"images": images, "strength": strength}
        return self.generate(len(images), labels, _given=given, **kwargs)

    def inpaint(self, images, mask, labels=None, **kwargs):
        """Draw a part of pictures anew; the rest stays, to the last bit.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H, W, C)`.
            mask: bool array of shape `(H, W)` or `(N, H, W)`, `True` where to
                draw.
            labels: list of ints or class names. Required if the backbone has
                classes.
            **kwargs: further arguments of `generate`.

        Returns:
            What `generate` returns.

        Example:
        >>> model.inpaint(photos, mask, num_steps=64, seed=0)

        References:
            - [Lugmayr et al., 2022](https://arxiv.org/abs/2201.09865), sec. 4.1
        """
        known = generation.to_pictures(images, self.backbone.image_shape)
        mask = generation.to_mask(mask, known.shape)
        given = {"known": known, "mask": mask}
        return self.generate(len(known), labels, _given=given, **kwargs)

    def upscale(self, images, labels=None, **kwargs):
        """Draw pictures whose averages over blocks are given small ones.

        Every predicted clean picture is moved to the nearest one with these
        averages, so the network adds what is finer than the small pictures.
        Only where it leaves the range of grey levels are they missed.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H / n, W / n, C)` with a whole number `n`.
            labels: list of ints or class names. Required if the backbone has
                classes.
            **kwargs: further arguments of `generate`.

        Returns:
            What `generate` returns.

        Example:
        >>> model.upscale(thumbnails, num_steps=64, seed=0)

        References:
            - [Wang et al., 2022](https://arxiv.org/abs/2212.00490), sec. 3.2
        """
        shape = self.backbone.image_shape
        small = generation.to_small_pictures(images, shape)
        given = {"small": small}
        return self.generate(len(small), labels, _given=given, **kwargs)

    def invert(
        self,
        images,
        labels=None,
        num_steps=None,
        batch_size=64,
        spacing="time",
    ):
        """Find the noise that `DDIMSampler` turns into given pictures.

        It follows the probability flow from the clean to the noisy end. The
        more steps, the closer `generate` comes back, called with this noise
        and as many steps, `sampler=DDIMSampler()`, `guidance_scale=1.0` and
        `clipping=None`.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H, W, C)`.
            labels: list of ints or class names. Required if the backbone has
                classes.
            num_steps: int. Defaults to the model's.
            batch_size: int. Defaults to `64`.
            spacing: string, as in `generate`. Defaults to `"time"`.

        Returns:
            A float32 NumPy array of shape `(N, H, W, C)`.

        References:
            - [Song et al., 2021](https://arxiv.org/abs/2010.02502), sec. 4.3
        """
        backbone = self.backbone
        images = generation.to_pictures(images, backbone.image_shape)
        labels = generation.find_labels(
            labels, backbone.num_classes, self.class_names
        )
        generation.count_images(len(images), labels)
        if num_steps is None:
            num_steps = self.num_steps
        grid = log_snr_grid(self.schedule, num_steps, spacing)
        inputs = {"labels": labels, "images": images}
        program = InversionProgram(Network(backbone, self.prediction_type))
        with self.averaged_weights():
            return self._run(
                program, inputs, {"grid": ops.flip(grid)}, batch_size
            )

    def interpolate(
        self, first, second, num_images=8, labels=None, num_steps=None, **kwargs
    ):
        """Draw pictures on the way from one to another.

        The way is the great circle between the noises that they start from.

        Args:
            first: int, the seed whose first picture the way starts from; or
                the picture itself, an array of shape `(H, W, C)`.
            second: int or array, where the way ends.
            num_images: int. Defaults to `8`.
            labels: list of ints or class names, one for all pictures or one
                each. Required if the backbone has classes.
            num_steps: int. Defaults to the model's.
            **kwargs: further arguments of `generate`. `sampler` defaults to
                `DDIMSampler()`, which adds no noise on the way. Where an end
                is a picture, `guidance_scale` defaults to 1 and `clipping` to
                `None`, so that the way leads there.

        Returns:
            What `generate` returns.

        References:
            - [Song et al., 2021](https://arxiv.org/abs/2010.02502), sec. 5.3
        """
        generation.check_list_of_labels(labels)
        if labels is not None and len(labels) == 1:
            labels = list(labels) * num_images
        generation.count_images(num_images, labels)
        each = [None, None] if labels is None else [labels[:1], labels[-1:]]
        spacing = kwargs.get("spacing", "time")
        ends = [
            self._noise_of(end, label, num_steps, spacing)
            for end, label in zip((first, second), each, strict=True)
        ]
        if not (_is_seed(first) and _is_seed(second)):
            if kwargs.get("guidance_scale") is None:
                kwargs["guidance_scale"] = 1.0
            kwargs.setdefault("clipping", None)
        noise = generation.great_circle(*ends, num_images)
        kwargs.setdefault("sampler", DDIMSampler())
        return self.generate(
            num_images, labels, num_steps, noise=noise, **kwargs
        )

    def _noise_of(self, end, labels, num_steps, spacing):
        """The noise that a seed's first picture, or a picture, comes from."""
        shape = self.backbone.image_shape
        if _is_seed(end):
            key = ops.convert_to_tensor(random.seed_to_key(int(end)), "int32")
            keys = random.picture_keys(key, ops.zeros(1, dtype="int32"))
            return ops.convert_to_numpy(random.normal(keys, 0, shape))[0]
        end = np.asarray(end)
        if end.shape != shape:
            raise InputError(
                "`first` and `second` are each a seed or a picture of shape "
                f"{shape}. Received: {end.dtype} of shape {end.shape}"
            )
        return self.invert(end[None], labels, num_steps, spacing=spacing)[0]

    def _run(self, program, by_picture, shared, batch_size):
        """Run a program batch by batch, compiled once."""
        if batch_size < 1:
            raise InputError(
                f"`batch_size` must be at least 1. Received: {batch_size}"
            )
        function = self.compiled_programs.get(program)
        if function is None:
            variables = list(program.network.backbone.variables)
            guide = getattr(program, "guide", None)
            if guide is not None and guide.backbone is not self.backbone:
                variables += guide.backbone.variables
            function = compile_function(
                program.__call__, variables, bool(self.jit_compile)
            )
            self.compiled_programs[program] = function
        count = max(len(v) for v in by_picture.values() if v is not None)
        parts = num_batch_parts()
        batch_size = -(-min(batch_size, count) // parts) * parts
        batches = []
        for start in range(0, count, batch_size):
            # The last batch is filled up: one size, one program.
            taken = np.arange(start, start + batch_size).clip(max=count - 1)
            inputs = {
                key: None
                if value is None
                else split_batch(np.asarray(value)[taken])
                for key, value in by_picture.items()
            }
            batch = function({**inputs, **shared})
            if not isinstance(batch, tuple):
                batch = (batch,)
            batches.append([native.to_numpy(part) for part in batch])
        results = [
            np.concatenate(parts)[:count]
            for parts in zip(*batches, strict=True)
        ]
        return results[0] if len(results) == 1 else tuple(results)


def _is_seed(end):
    return isinstance(end, (int, np.integer))


def _to_tensor(value):
    return None if value is None else ops.convert_to_tensor(value, "float32")
