from keras_simple_diffusion.models.backbone import (
    DiffusionBackbone as DiffusionBackbone,
)
from keras_simple_diffusion.models.diffusion_model import (
    DiffusionModel as DiffusionModel,
)
from keras_simple_diffusion.models.loading import load_model as load_model
from keras_simple_diffusion.models.residual_uvit_backbone import (
    ResidualUViTBackbone as ResidualUViTBackbone,
)
from keras_simple_diffusion.models.setting_warnings import (
    UnusualSettingWarning as UnusualSettingWarning,
)
from keras_simple_diffusion.models.text_to_image import (
    TextToImage as TextToImage,
)
from keras_simple_diffusion.models.transfer import (
    transfer_weights as transfer_weights,
)
from keras_simple_diffusion.models.unet_backbone import (
    UNetBackbone as UNetBackbone,
)
from keras_simple_diffusion.models.uvit_backbone import (
    UViTBackbone as UViTBackbone,
)
from keras_simple_diffusion.utils.presets import (
    builtin_presets as builtin_presets,
)
