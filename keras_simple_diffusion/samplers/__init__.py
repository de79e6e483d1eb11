"""Samplers, which turn noise into images, and guidance.

A `Sampler` takes the steps of a grid of log-SNRs that `log_snr_grid` makes.
`classifier_free_guidance` and `rescale_guidance` change the network's
prediction, in its own space; the `clip_*` functions change the predicted clean
images.
"""

from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler
from keras_simple_diffusion.samplers.ddpm_sampler import DDPMSampler
from keras_simple_diffusion.samplers.dpm_solver_sampler import DPMSolverSampler
from keras_simple_diffusion.samplers.guidance import classifier_free_guidance
from keras_simple_diffusion.samplers.guidance import clip_dynamic
from keras_simple_diffusion.samplers.guidance import clip_static
from keras_simple_diffusion.samplers.guidance import rescale_guidance
from keras_simple_diffusion.samplers.heun_sampler import HeunSampler
from keras_simple_diffusion.samplers.sampler import Sampler
from keras_simple_diffusion.samplers.sampler import SamplerStep
from keras_simple_diffusion.samplers.sampler import log_snr_grid
from keras_simple_diffusion.utils.configurable import resolve

__all__ = [
    "DDIMSampler",
    "DDPMSampler",
    "DPMSolverSampler",
    "HeunSampler",
    "Sampler",
    "SamplerStep",
    "classifier_free_guidance",
    "clip_dynamic",
    "clip_static",
    "get",
    "log_snr_grid",
    "rescale_guidance",
]


_NAMES = {
    "ddpm": DDPMSampler,
    "ddim": DDIMSampler,
    "heun": HeunSampler,
    "dpm": DPMSolverSampler,
}


def __dir__():
    return __all__


def get(identifier):
    """Return the sampler that an identifier stands for.

    Args:
        identifier: a `Sampler`; `None`; a name, `"ddpm"`, `"ddim"`, `"heun"` or
            `"dpm"`, which may be followed by arguments, as in
            `"ddpm:variance_interpolation=1"` or
            `"heun:churn=20,churn_interval=(-6,4)"`; or a serialized
            configuration.

    Returns:
        A `Sampler`, or `None` for `None`.

    Raises:
        InputError: if there is no such sampler, or an argument is not valid.

    Example:
    >>> keras_simple_diffusion.samplers.get("dpm:stochastic=true")
    DPMSolverSampler(stochastic=True)
    """
    return resolve(Sampler, identifier, _NAMES)


def identify(sampler):
    """Return the string for which `get` returns an equal sampler.

    Args:
        sampler: a `Sampler`.

    Returns:
        A string such as `"ddim:eta=0.5"`; of a sampler without a short name
        its representation.
    """
    text = repr(sampler)
    for name, kind in _NAMES.items():
        if type(sampler) is kind:
            arguments = text.partition("(")[2].removesuffix(")")
            return f"{name}:{arguments}".removesuffix(":")
    return text
