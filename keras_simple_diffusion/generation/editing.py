import numpy as np
from keras import ops

from keras_simple_diffusion.generation import arguments
from keras_simple_diffusion.generation.drawing import Drawing
from keras_simple_diffusion.generation.programs import InversionProgram
from keras_simple_diffusion.generation.programs import Network
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler
from keras_simple_diffusion.samplers.sampler import log_snr_grid
from keras_simple_diffusion.utils.errors import InputError


class ImageGeneration(Drawing):
    """The part of a diffusion model that draws and edits images of classes.

    A base class of tasks that have `class_names` beside what `Drawing` needs.
    All of it is done with the averaged weights.
    """

    def generate(
        self,
        num_images=None,
        labels=None,
        num_steps=None,
        guidance_scale=None,
        seed=None,
        **options,
    ):
        """Draw images, with the averaged weights.

        Args:
            num_images: int. Defaults to the number of labels, or 1.
            labels: list of ints or class names, one an image. Label
                `num_classes` is the null label. Required if the backbone has
                classes.
            num_steps: int. Number of steps, each of one network evaluation
                (two for `HeunSampler`). Defaults to the model's.
            guidance_scale: float. 1 is no guidance, at half the cost.
                Defaults to the model's.
            seed: int. Defaults to a random one.
            **options: further arguments of `draw`.

        Returns:
            A `uint8` NumPy array of shape `(num_images, H, W, C)`, and more
            with `return_steps`, see `draw`.

        Example:
        >>> model.generate(labels=[3] * 16, num_steps=64, guidance_scale=2.0)
        """
        labels = self._find_labels(labels)
        num_images = arguments.count_images(num_images, labels)
        null = None
        if labels is not None:
            null = np.full_like(labels, self.backbone.num_classes)
        return self.draw(
            num_images,
            arguments.label_conditions(labels),
            arguments.label_conditions(null),
            num_steps,
            guidance_scale,
            seed,
            **options,
        )

    def edit(self, images, labels=None, strength=0.6, **kwargs):
        """Make variations of images: add noise, and draw anew from there.

        Args:
            images: `uint8` array, or float in `[-1, 1]`, of shape
                `(N, H, W, C)`.
            labels: list of ints or class names, what the images shall
                become. Required if the backbone has classes.
            strength: float in `[0, 1]`, the share of the steps that is drawn
                anew. 0 returns the images, 1 forgets them. Defaults to
                `0.6`.
            **kwargs: further arguments of `generate`.

        Returns:
            What `generate` returns.

        Example:
        >>> model.edit(photos, strength=0.5, seed=0)
        """
        images = arguments.to_images(images, self.backbone.image_shape)
        given = {"images": images, "strength": strength}
        return self.generate(len(images), labels, given=given, **kwargs)

    def inpaint(self, images, mask, labels=None, **kwargs):
        """Draw a part of images anew; the rest stays, to the last bit.

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
        known = arguments.to_images(images, self.backbone.image_shape)
        mask = arguments.to_mask(mask, known.shape)
        given = {"known": known, "mask": mask}
        return self.generate(len(known), labels, given=given, **kwargs)

    def upscale(self, images, labels=None, **kwargs):
        """Draw images whose averages over blocks are given small ones.

        Every predicted clean image is moved to the nearest one with these
        averages, so the network adds what is finer than the small images.
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
        small = arguments.to_small_images(images, shape)
        given = {"small": small}
        return self.generate(len(small), labels, given=given, **kwargs)

    def invert(
        self,
        images,
        labels=None,
        num_steps=None,
        batch_size=64,
        spacing="time",
    ):
        """Find the noise that `DDIMSampler` turns into given images.

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
        images = arguments.to_images(images, backbone.image_shape)
        labels = self._find_labels(labels)
        arguments.count_images(len(images), labels)
        if num_steps is None:
            num_steps = self.num_steps
        grid = log_snr_grid(self.schedule, num_steps, spacing)
        inputs = {
            "conditions": arguments.label_conditions(labels),
            "images": images,
        }
        program = InversionProgram(Network(backbone, self.prediction_type))
        with self.averaged_weights():
            return self._run(
                program, inputs, {"grid": ops.flip(grid)}, batch_size
            )

    def interpolate(
        self, first, second, num_images=8, labels=None, num_steps=None, **kwargs
    ):
        """Draw images on the way from one to another.

        The way is the great circle between the noises that they start from.

        Args:
            first: int, the seed whose first image the way starts from; or
                the image itself, an array of shape `(H, W, C)`.
            second: int or array, where the way ends.
            num_images: int. Defaults to `8`.
            labels: list of ints or class names, one for all images or one
                each. Required if the backbone has classes.
            num_steps: int. Defaults to the model's.
            **kwargs: further arguments of `generate`. `sampler` defaults to
                `DDIMSampler()`, which adds no noise on the way. Where an end
                is an image, `guidance_scale` defaults to 1 and `clipping` to
                `None`, so that the way leads there.

        Returns:
            What `generate` returns.

        References:
            - [Song et al., 2021](https://arxiv.org/abs/2010.02502), sec. 5.3
        """
        arguments.check_list_of_labels(labels)
        if labels is not None and len(labels) == 1:
            labels = list(labels) * num_images
        arguments.count_images(num_images, labels)
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
        noise = arguments.great_circle(*ends, num_images)
        kwargs.setdefault("sampler", DDIMSampler())
        return self.generate(
            num_images, labels, num_steps, noise=noise, **kwargs
        )

    def _find_labels(self, labels):
        return arguments.find_labels(
            labels, self.backbone.num_classes, self.class_names
        )

    def _noise_of(self, end, labels, num_steps, spacing):
        """The noise that a seed's first image, or an image, comes from."""
        shape = self.backbone.image_shape
        if _is_seed(end):
            key = ops.convert_to_tensor(random.seed_to_key(int(end)), "int32")
            keys = random.image_keys(key, ops.zeros(1, dtype="int32"))
            return ops.convert_to_numpy(random.normal(keys, 0, shape))[0]
        end = np.asarray(end)
        if end.shape != shape:
            raise InputError(
                "`first` and `second` are each a seed or an image of shape "
                f"{shape}. Received: {end.dtype} of shape {end.shape}"
            )
        return self.invert(end[None], labels, num_steps, spacing=spacing)[0]


def _is_seed(end):
    return isinstance(end, (int, np.integer))
