from keras_simple_diffusion.samplers.ddim_sampler import (
    DDIMSampler as DDIMSampler,
)
from keras_simple_diffusion.samplers.ddpm_sampler import (
    DDPMSampler as DDPMSampler,
)
from keras_simple_diffusion.samplers.grids import log_snr_grid as log_snr_grid
from keras_simple_diffusion.samplers.guidance import (
    classifier_free_guidance as classifier_free_guidance,
)
from keras_simple_diffusion.samplers.sampler import Sampler as Sampler
