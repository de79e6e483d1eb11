"""Programs that draw images: compiled code, and the cache that keeps it."""

import collections
import dataclasses
import threading
import time
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.backend.block_programs import BlockPrograms
from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.backend.compilation import keeps_each_shape
from keras_simple_diffusion.distribution.batches import num_batch_parts
from keras_simple_diffusion.generation.denoising import Denoiser
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.ops.diffusion import to_uint8
from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler
from keras_simple_diffusion.utils import bars

_SECONDS = 0.3  # Between reports to the watcher.


@dataclasses.dataclass(frozen=True, eq=False)
class DrawingStep:
    """A step that a batch of images has taken.

    Args:
        number: int. The number of steps taken so far, from 1 to `num_steps`.
        num_steps: int. The number of steps in all.
        indices: int32 array of shape `(B,)`, the numbers of the images. The
            last batch of several may repeat its last image.
        images: `uint8` array of shape `(B, H, W, C)`, the clean images
            predicted in the step.
    """

    number: int
    num_steps: int
    indices: np.ndarray
    images: np.ndarray


@dataclasses.dataclass(frozen=True)
class SamplingProgram:
    """Program that draws one batch of images.

    Args:
        denoiser: a `Denoiser`.
        sampler: a `keras_simple_diffusion.samplers.Sampler`.
        image_size: tuple `(height, width)`, or `None` for that of the network.
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
            arrays of a `Guidance`; and, to take only some of the steps,
            `"range"`, int32 `(2,)`, the first one and that before which to
            end, with `"state"`, the state there, see `Sampler.advance`. The
            state is not read by the first step.

    Returns:
        A tuple of a `uint8` tensor of shape `(B, H, W, C)` and a bool tensor
        of shape `(B,)`, whether the image is finite; with `"range"` also the
        new state; with `return_steps` also two of shape
        `(B, num_steps, H, W, C)`, the noisy and the predicted clean images of
        each step.
    """

    denoiser: Denoiser
    sampler: Any
    image_size: tuple | None = None
    start: type | None = None
    return_steps: bool = False

    @property
    def variables(self):
        """The variables that the program reads."""
        return self.denoiser.variables

    @property
    def image_shape(self):
        """The shape of an image, `(H, W, C)`."""
        height, width, channels = self.denoiser.network.backbone.image_shape
        return (*(self.image_size or (height, width)), channels)

    def __call__(self, rows, shared):
        grid, noise = shared["grid"], rows.get("noise")
        if noise is None:
            keys = random.image_keys(shared["key"], rows["indices"])
            noise = random.normal(keys, 0, self.image_shape)
        if self.start is not None:
            noise = self.start.apply(noise, grid[0], rows["start"])

        def denoise(noisy_images, log_snr):
            return self.denoiser(
                noisy_images, log_snr, rows, shared.get("guidance")
            )

        num_steps = grid.shape[0] - 1
        first, last = 0, num_steps
        state = self.sampler.initial_state(
            noise, num_steps if self.return_steps else 0
        )
        if "range" in shared:
            first, last = shared["range"][0], shared["range"][1]
            state = keras.tree.map_structure(
                lambda begun, reached: ops.where(first < 1, begun, reached),
                state,
                shared["state"],
            )
        state = self.sampler.advance(
            denoise, state, grid, first, last, shared["key"], rows["indices"]
        )
        _, images, _, steps = state
        is_finite = ops.all(ops.isfinite(images), axis=(1, 2, 3))
        more = [ops.swapaxes(to_uint8(step), 0, 1) for step in steps]
        if "range" in shared:
            more = [state]
        return to_uint8(images), is_finite, *more

    def run(self, function, rows, shared, on_step_end=None):
        """Run the compiled program on one batch.

        A watcher of the images is called a few times a second, between
        calls of the program, and `on_step_end` after each step. That is one
        program in any case: its first and last step are arguments.

        Args:
            function: the compiled program.
            rows: see above.
            shared: see above.
            on_step_end: optional function of a `DrawingStep`.

        Returns:
            The results, without the state.
        """
        if self.return_steps or num_batch_parts() > 1:
            return function(rows, shared)
        tell = bars.watcher()
        count, num_steps = len(rows["indices"]), shared["grid"].shape[0] - 1
        images = ops.zeros((count, *self.image_shape))
        state = self.sampler.initial_state(images)
        is_quiet = tell is None and on_step_end is None
        first, size = 0, num_steps if is_quiet else 1
        while first < num_steps:
            started, last = time.monotonic(), min(first + size, num_steps)
            steps = ops.convert_to_tensor([first, last], "int32")
            *results, state = function(
                rows, {**shared, "range": steps, "state": state}
            )
            if on_step_end is not None:
                clean = native.to_numpy(to_uint8(state[1]))
                indices = native.to_numpy(rows["indices"])
                on_step_end(DrawingStep(last, num_steps, indices, clean))
            if tell is not None:
                native.to_numpy(results[1])  # It waits for the device.
                tell(count * (last - first) / num_steps)
            if tell is not None and on_step_end is None:
                seconds = (time.monotonic() - started) / (last - first)
                size = max(1, int(_SECONDS / max(seconds, 1e-9)))
            first = last
        return tuple(results)


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

    A program for other shapes, such as another number of images or steps, is
    one more where it is compiled for them, so that the memory of drawing is
    bounded. If the variables of a program have been replaced, by quantization
    or LoRA, it is compiled again. The cache can be used from several threads.

    Args:
        size: int. Number of programs to keep. Defaults to `16`.

    Attributes:
        blocks: the `BlockPrograms` for training.
    """

    def __init__(self, size=16):
        self.size = size
        self.blocks = BlockPrograms()
        self._entries = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self):
        return len(self._entries)

    def compile(self, program, jit_compile, run_eagerly=False):
        """Return a compiled program, from the cache where it is there.

        Args:
            program: hashable callable with the attribute `variables`.
            jit_compile: bool, see `compile_function`.
            run_eagerly: bool, see `compile_function`. Defaults to `False`.

        Returns:
            A function of the arguments of the program and of `values`, see
            `compile_function`.
        """
        variables = list(program.variables)

        def call(*args, values=None):
            shapes = []
            if keeps_each_shape():
                flat = keras.tree.flatten(args)
                shapes = [tuple(getattr(x, "shape", ())) for x in flat]
            key = (program, jit_compile, run_eagerly, *shapes)
            return self._compiled(key, variables)(*args, values=values)

        return call

    def _compiled(self, key, variables):
        """Find or compile the program for arguments of some shapes."""
        program, *how = key[:3]
        with self._lock:
            known, function = self._entries.pop(key, (None, None))
            if known is None or list(map(id, known)) != list(
                map(id, variables)
            ):
                function = compile_function(program.__call__, variables, *how)
            self._entries[key] = (variables, function)
            while len(self._entries) > self.size:
                self._entries.popitem(last=False)
        return function

    def clear(self):
        """Drop all programs."""
        self.blocks = BlockPrograms()
        with self._lock:
            self._entries.clear()
