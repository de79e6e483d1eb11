"""Programs that draw images: compiled code, and the cache that keeps it."""

import collections
import dataclasses
import threading
import warnings
from typing import Any

from keras import ops

from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.generation.denoising import Denoiser
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.ops.diffusion import to_uint8
from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler


@dataclasses.dataclass(frozen=True)
class SamplingProgram:
    """Program that draws one batch of images.

    Args:
        denoiser: a `Denoiser`.
        sampler: a `keras_simple_diffusion.samplers.Sampler`.
        start: class of the start, such as `Variation`, or `None` to start
            from noise.
        return_steps: bool. Whether to return the images of each step.

    Call arguments:
        rows: dict of what each image has: `"indices"`, int32 `(B,)`;
            `"inputs"`, a dict of the network's inputs; optionally
            `"null_inputs"` or `"weak_inputs"`, the same for the weaker
            prediction of guidance, `"noise"`, float32 `(B, H, W, C)`, and the
            arrays of `"start"` and `"constraint"`.
        shared: dict of what all images share: `"key"`, int32 `(2,)`;
            `"grid"`, float32 `(num_steps + 1,)`; optionally `"guidance"`, the
            arrays of a `Guidance`.

    Returns:
        A tuple of a `uint8` tensor of shape `(B, H, W, C)` and a bool tensor
        of shape `(B,)`, whether the image is finite; with `return_steps` also
        two of shape `(B, num_steps, H, W, C)`, the noisy and the predicted
        clean images of each step.
    """

    denoiser: Denoiser
    sampler: Any
    start: type | None = None
    return_steps: bool = False

    @property
    def variables(self):
        """The variables that the program reads."""
        return self.denoiser.variables

    def __call__(self, rows, shared):
        grid, noise = shared["grid"], rows.get("noise")
        if noise is None:
            keys = random.image_keys(shared["key"], rows["indices"])
            shape = self.denoiser.network.backbone.image_shape
            noise = random.normal(keys, 0, shape)
        if self.start is not None:
            noise = self.start.apply(noise, grid[0], rows["start"])

        def denoise(noisy_images, log_snr):
            return self.denoiser(
                noisy_images, log_snr, rows, shared.get("guidance")
            )

        results = self.sampler.sample(
            denoise,
            noise,
            grid,
            shared["key"],
            rows["indices"],
            return_clean=True,
            return_steps=self.return_steps,
        )
        images, *steps = results if self.return_steps else [results]
        is_finite = ops.all(ops.isfinite(images), axis=(1, 2, 3))
        steps = (ops.swapaxes(to_uint8(step), 0, 1) for step in steps)
        return to_uint8(images), is_finite, *steps


def warn_unless_finite(is_finite):
    """Warn of drawn images that hold NaN or infinity, and came out black.

    Args:
        is_finite: bool array, one per image.
    """
    if not is_finite.all():
        warnings.warn(
            f"{(~is_finite).sum()} of {len(is_finite)} images are not finite "
            "(NaN or infinity) and black: the weights are not finite, or the "
            "network overflows. Use weights of an earlier step, a smaller "
            "guidance scale, or another dtype.",
            stacklevel=2,
        )


@dataclasses.dataclass(frozen=True)
class InversionProgram:
    """Program that finds the noise which DDIM turns into given images.

    Args:
        network: a `Network`.

    Call arguments:
        rows: dict of `"images"`, float32 `(B, H, W, C)`, and `"inputs"`,
            a dict of the network's inputs.
        shared: dict of `"grid"`, float32 `(num_steps + 1,)`, from the clean
            to the noisy end.

    Returns:
        A float32 tensor of shape `(B, H, W, C)`.
    """

    network: Network

    @property
    def variables(self):
        """The variables that the program reads."""
        return self.network.backbone.variables

    def __call__(self, rows, shared):
        denoiser = Denoiser(self.network)

        def denoise(noisy_images, log_snr):
            return denoiser(noisy_images, log_snr, rows)

        images, grid = rows["images"], shared["grid"]
        start = diffuse(images, ops.zeros_like(images), grid[0])
        return DDIMSampler().sample(denoise, start, grid)


class ProgramCache:
    """Compiled programs, the most recently used ones.

    If the variables of a program have been replaced, by quantization or LoRA,
    it is compiled again. The cache can be used from several threads.

    Args:
        size: int. Number of programs to keep. Defaults to `16`.
    """

    def __init__(self, size=16):
        self.size = size
        self._entries = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self):
        return len(self._entries)

    def compile(self, program, jit_compile):
        """Return a compiled program, from the cache if it is there.

        Args:
            program: hashable callable with the attribute `variables`.
            jit_compile: bool, see `compile_function`.

        Returns:
            A function of the arguments of the program and of `values`, see
            `compile_function`.
        """
        variables = list(program.variables)
        key = (program, jit_compile)
        with self._lock:
            known, function = self._entries.pop(key, (None, None))
            if known is None or list(map(id, known)) != list(
                map(id, variables)
            ):
                function = compile_function(
                    program.__call__, variables, jit_compile
                )
            self._entries[key] = (variables, function)
            while len(self._entries) > self.size:
                self._entries.popitem(last=False)
        return function

    def clear(self):
        """Drop all programs."""
        with self._lock:
            self._entries.clear()
