from keras_simple_diffusion.schedules.cosine_schedule import (
    CosineSchedule as CosineSchedule,
)
from keras_simple_diffusion.schedules.interpolated_cosine_schedule import (
    InterpolatedCosineSchedule as InterpolatedCosineSchedule,
)
from keras_simple_diffusion.schedules.noise_schedule import (
    NoiseSchedule as NoiseSchedule,
)
from keras_simple_diffusion.schedules.shifted_cosine_schedule import (
    ShiftedCosineSchedule as ShiftedCosineSchedule,
)
