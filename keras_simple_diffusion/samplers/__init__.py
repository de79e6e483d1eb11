from keras_simple_diffusion.samplers.ddim_sampler import (
    DDIMSampler as DDIMSampler,
)
from keras_simple_diffusion.samplers.ddpm_sampler import (
    DDPMSampler as DDPMSampler,
)
from keras_simple_diffusion.samplers.dpm_solver_sampler import (
    DPMSolverSampler as DPMSolverSampler,
)
from keras_simple_diffusion.samplers.guidance import (
    classifier_free_guidance as classifier_free_guidance,
)
from keras_simple_diffusion.samplers.guidance import (
    clip_dynamic as clip_dynamic,
)
from keras_simple_diffusion.samplers.guidance import clip_static as clip_static
from keras_simple_diffusion.samplers.guidance import (
    rescale_guidance as rescale_guidance,
)
from keras_simple_diffusion.samplers.heun_sampler import (
    HeunSampler as HeunSampler,
)
from keras_simple_diffusion.samplers.sampler import Sampler as Sampler
from keras_simple_diffusion.samplers.sampler import SamplerStep as SamplerStep
from keras_simple_diffusion.samplers.sampler import log_snr_grid as log_snr_grid
