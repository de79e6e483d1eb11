import keras
import keras_hub
from keras_hub.src.utils.preset_utils import get_preset_loader

from keras_simple_diffusion.distribution import processes
from keras_simple_diffusion.generation.drawing import Drawing
from keras_simple_diffusion.losses.diffusion_loss import DiffusionLoss
from keras_simple_diffusion.models.diffusion_training import DiffusionTraining
from keras_simple_diffusion.models.setting_warnings import warn_unusual
from keras_simple_diffusion.ops.diffusion import check_prediction_type
from keras_simple_diffusion.samplers.ddpm_sampler import DDPMSampler
from keras_simple_diffusion.schedules.shifted_cosine_schedule import (
    ShiftedCosineSchedule,
)
from keras_simple_diffusion.utils.files import whole_folder
from keras_simple_diffusion.utils.presets import resolve_preset

# Arguments that are objects of their own.
_OBJECTS = ("backbone", "text_encoder", "schedule", "loss", "sampler")


class DiffusionTask(DiffusionTraining, Drawing, keras_hub.models.Task):
    """What diffusion models of classes and of texts share.

    It joins a network with a noise schedule, a loss and the defaults of
    sampling; all of them are part of its preset. The arguments are those of
    `DiffusionModel`.
    """

    def __init__(
        self,
        backbone,
        schedule=None,
        loss=None,
        prediction_type="v",
        sampler=None,
        num_steps=256,
        guidance_scale=1.0,
        stratified=False,
        compile=True,
        **kwargs,
    ):
        check_prediction_type("prediction_type", prediction_type)
        super().__init__(compile=False, dtype="float32", **kwargs)
        self.backbone = backbone
        self.preprocessor = None
        if schedule is None:
            size = min(backbone.image_shape[:2])
            schedule = ShiftedCosineSchedule(size, noise_size=min(size, 64))
        self.schedule = schedule
        self.diffusion_loss = loss or DiffusionLoss(error_type="v")
        warn_unusual(
            schedule, self.diffusion_loss, backbone.image_shape, stacklevel=3
        )
        self.prediction_type = prediction_type
        self.sampler = sampler or DDPMSampler()
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self.stratified = stratified
        self._create_seeds()
        self.compiled_programs = {}
        self.built = True  # All variables are those of its parts.
        if compile:
            self.compile()

    @property
    def own_variables(self):
        """The variables that a preset or checkpoint has to hold."""
        return self.variables

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "backbone": keras.layers.serialize(self.backbone),
            "schedule": serialize(self.schedule),
            "loss": serialize(self.diffusion_loss),
            "prediction_type": self.prediction_type,
            "sampler": serialize(self.sampler),
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
            "stratified": self.stratified,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for key in _OBJECTS:
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Write a preset folder, with the averaged weights.

        Of several processes all must call it, and the main one writes.

        Args:
            preset_dir: path of the folder.
            max_shard_size: see `keras_hub.models.Task.save_to_preset`.
        """
        variables = self.own_variables
        with self.averaged_weights(), processes.gathered(variables):
            if not processes.is_main_process():
                return
            with whole_folder(preset_dir) as draft:
                super().save_to_preset(draft, max_shard_size=max_shard_size)

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Load a model from a preset.

        Args:
            preset: string. The name of a built-in preset, a folder written by
                `save_to_preset`, or an `hf://` or `kaggle://` handle.
            load_weights: bool. Whether to load weights, or start from random
                ones. Defaults to `True`.
            **kwargs: overrides of the preset's configuration, such as
                `guidance_scale`.

        Returns:
            A model of this class.
        """
        # Of a preset that holds a backbone alone, the rest is default. The
        # base class would look for one task class for each backbone class.
        loader = get_preset_loader(resolve_preset(preset, load_weights))
        loader.check_backbone_class()
        # The base class fails at presets in mixed precision without it.
        kwargs["dtype"] = kwargs.get("dtype") or keras.config.dtype_policy()
        return loader.load_task(cls, load_weights, True, **kwargs)
