"""A look inside a model: its schedule, and an image at any noise level."""

import dataclasses
import io

import numpy as np
from keras import ops
from matplotlib import figure as matplotlib_figure

from keras_simple_diffusion.generation.arguments import SamplingOptions
from keras_simple_diffusion.generation.denoising import Denoiser
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.ops import random
from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.ops.diffusion import to_uint8


@dataclasses.dataclass(frozen=True)
class DenoisingProgram:
    """Program that adds noise to images and predicts the clean ones.

    Args:
        denoiser: a `Denoiser`.

    Call arguments:
        rows: dict of `"images"`, float32 `(B, H, W, C)`, `"indices"`, int32
            `(B,)`, and `"inputs"`, a dict of the network's inputs.
        shared: dict of `"key"`, int32 `(2,)`, and `"log_snr"`, a float32
            scalar.

    Returns:
        A tuple of two `uint8` tensors of shape `(B, H, W, C)`, the noisy
        images and the predicted clean ones.
    """

    denoiser: Denoiser

    @property
    def variables(self):
        """The variables that the program reads."""
        return self.denoiser.variables

    def __call__(self, rows, shared):
        images, log_snr = rows["images"], shared["log_snr"]
        keys = random.image_keys(shared["key"], rows["indices"])
        noise = random.normal(keys, 0, images.shape[1:])
        noisy = diffuse(images, noise, log_snr)
        log_snr = ops.broadcast_to(log_snr, (images.shape[0],))
        clean = self.denoiser(noisy, log_snr, rows)
        return to_uint8(noisy), to_uint8(clean)


def denoise(task, image, time, conditions=None, seed=0):
    """Add noise to an image, and predict the clean one from it.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        image: `uint8` array of shape `(H, W, C)`.
        time: float in `[0, 1]`, 0 for the cleanest level of the schedule.
        conditions: dict of arguments of `generate` for one image, such as
            `{"labels": [3]}`. Defaults to none.
        seed: int. The noise is that of the seed's first image. Defaults to
            `0`.

    Returns:
        A tuple of the noisy and the predicted image, `uint8` arrays.
    """
    given = task.find_conditions(SamplingOptions(), 1, **(conditions or {}))
    network = Network(task.backbone, task.prediction_type)
    log_snr = ops.cast(task.schedule(np.float32(time)), "float32")
    key = ops.convert_to_tensor(random.seed_to_key(seed), "int32")
    noisy, clean = task.run_program(
        DenoisingProgram(Denoiser(network, clipping="static")),
        {
            "images": np.float32(image)[None] / np.float32(127.5) - 1,
            "indices": np.zeros(1, "int32"),
            "inputs": given.given,
        },
        {"key": key, "log_snr": log_snr},
    )
    return noisy[0], clean[0]


def draw_schedule(task, time):
    """Draw the noise schedule, and one time on it, as two plots in SVG.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        time: float in `[0, 1]`.

    Returns:
        A tuple of two strings.
    """
    times = np.linspace(0.0, 1.0, 101, dtype="float32")
    log_snr = ops.convert_to_numpy(task.schedule(times))
    here = float(ops.convert_to_numpy(task.schedule(np.float32(time))))
    alpha, sigma = map(ops.convert_to_numpy, alpha_sigma(log_snr))
    levels, factors = (
        matplotlib_figure.Figure(figsize=(4, 2.6), layout="tight")
        for _ in range(2)
    )
    axes = levels.subplots()
    axes.plot(times, log_snr)
    axes.plot([time], [here], "o", color="tab:red")
    axes.set(xlabel="time, 1 is noise", ylabel="log-SNR")
    axes = factors.subplots()
    axes.plot(times, alpha, label="image")
    axes.plot(times, sigma, label="noise")
    axes.axvline(time, color="tab:red", linewidth=1)
    axes.set(xlabel="time, 1 is noise", ylabel="factor")
    axes.legend(fontsize=8)
    return _to_svg(levels), _to_svg(factors)


def _to_svg(figure):
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    return drawing[drawing.index("<svg") :]


def error(image, other):
    """Return the root mean squared difference of two images, in grey levels."""
    difference = np.float64(image) - np.float64(other)
    return float(np.sqrt((difference**2).mean()))
