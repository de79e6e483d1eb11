"""Samplers, which turn noise into images, and guidance.

A `Sampler` takes the steps of a grid of log-SNRs that `log_snr_grid` makes.
`classifier_free_guidance`, `rescale_guidance` and the `clip_*` functions
change the predicted clean images of a step.
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
    "log_snr_grid",
    "rescale_guidance",
]


def __dir__():
    return __all__
