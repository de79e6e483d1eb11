import keras
import keras_hub
from keras_hub.src.utils.preset_utils import get_preset_loader

from keras_simple_diffusion.distribution import processes
from keras_simple_diffusion.losses.diffusion_loss import DiffusionLoss
from keras_simple_diffusion.models import generation
from keras_simple_diffusion.models.diffusion_training import DiffusionTraining
from keras_simple_diffusion.models.guard import warn_unusual
from keras_simple_diffusion.models.image_generation import ImageGeneration
from keras_simple_diffusion.ops.diffusion import check_prediction_type
from keras_simple_diffusion.samplers.ddpm_sampler import DDPMSampler
from keras_simple_diffusion.schedules.shifted_cosine_schedule import (
    ShiftedCosineSchedule,
)
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_folder
from keras_simple_diffusion.utils.presets import resolve_preset


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DiffusionModel(DiffusionTraining, ImageGeneration, keras_hub.models.Task):
    """Pixel-space diffusion model, trained by `fit`, sampled by `generate`.

    It joins a network with a noise schedule and a loss. All of them, and the
    defaults of sampling, are part of its preset, so that nothing has to be
    remembered to sample from it.

    Training draws a time, noise and, for the unconditional half of guidance,
    which labels to drop, inside the compiled step. An exponential moving
    average of the weights is kept beside the weights and used by `generate`
    and `save_to_preset`.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        schedule: a `keras_simple_diffusion.schedules.NoiseSchedule`. Defaults
            to the cosine schedule, shifted with a noise size of 64 for
            pictures larger than that.
        loss: a `keras_simple_diffusion.losses.DiffusionLoss`. Defaults to
            the squared error in v, as for the paper's U-ViT.
        label_dropout: float. Share of the labels replaced by the null label
            in training. Defaults to `0.1`.
        prediction_type: string. What the network predicts: `"v"`,
            `"epsilon"` or `"x"`. Defaults to `"v"`.
        class_names: list of strings or `None`, one a class.
        sampler: the default `keras_simple_diffusion.samplers.Sampler`.
            Defaults to `DDPMSampler()`.
        num_steps: int. The default number of sampling steps. Defaults to
            `256`.
        guidance_scale: float. The default guidance. Defaults to `1.0`.
        stratified: bool. Whether the times of a batch are spread evenly, one
            to each of as many ranges as there are pictures, which makes the
            loss of a batch less random; each time alone stays uniform. The
            papers draw them independently. Defaults to `False`.
        compile: bool. Whether to compile with the defaults of `compile`.
            Defaults to `True`.
        **kwargs: base `keras_hub.models.Task` arguments.

    Example:
    ```python
    images, labels = keras_simple_diffusion.data.load_digits(image_size=16)
    backbone = keras_simple_diffusion.models.UViTBackbone(
        image_shape=(16, 16, 1), channels=(32, 128), blocks=(2, 4),
        num_classes=10, embedding_dim=128,
    )
    model = keras_simple_diffusion.models.DiffusionModel(backbone)
    model.fit({"images": images, "labels": labels}, batch_size=64, epochs=20)
    pictures = model.generate(labels=[0, 1, 2], num_steps=64)
    ```

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093)
    """

    def __init__(
        self,
        backbone,
        schedule=None,
        loss=None,
        label_dropout=0.1,
        prediction_type="v",
        class_names=None,
        sampler=None,
        num_steps=256,
        guidance_scale=1.0,
        stratified=False,
        compile=True,
        **kwargs,
    ):
        check_prediction_type("prediction_type", prediction_type)
        if backbone.context_dim is not None or backbone.portrait_flag:
            raise InputError(
                "`DiffusionModel` is for pictures with or without classes, and "
                "this backbone takes text. Received: "
                f"context_dim={backbone.context_dim}, "
                f"portrait_flag={backbone.portrait_flag}"
            )
        if not 0.0 <= label_dropout <= 1.0:
            raise InputError(
                "`label_dropout` must be in [0, 1]. Received: "
                f"label_dropout={label_dropout}"
            )
        generation.check_guidance(guidance_scale, backbone.num_classes)
        if class_names is not None and len(class_names) != backbone.num_classes:
            raise InputError(
                f"`class_names` must name the {backbone.num_classes} classes "
                f"of the backbone. Received: {len(class_names)} names"
            )
        super().__init__(compile=False, dtype="float32", **kwargs)
        self.backbone = backbone
        self.preprocessor = None
        if schedule is None:
            size = min(backbone.image_shape[:2])
            schedule = ShiftedCosineSchedule(size, noise_size=min(size, 64))
        self.schedule = schedule
        self.diffusion_loss = loss or DiffusionLoss(error_type="v")
        warn_unusual(
            schedule, self.diffusion_loss, backbone.image_shape, stacklevel=2
        )
        self.label_dropout = label_dropout
        self.prediction_type = prediction_type
        self.class_names = class_names and list(class_names)
        self.sampler = sampler or DDPMSampler()
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self.stratified = stratified
        self._create_seeds()
        self.compiled_programs = {}
        self.built = True  # All variables are the backbone's.
        if compile:
            self.compile()

    # === Presets ===

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "backbone": keras.layers.serialize(self.backbone),
            "schedule": serialize(self.schedule),
            "loss": serialize(self.diffusion_loss),
            "label_dropout": self.label_dropout,
            "prediction_type": self.prediction_type,
            "class_names": self.class_names,
            "sampler": serialize(self.sampler),
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
            "stratified": self.stratified,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for key in ("backbone", "schedule", "loss", "sampler"):
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
        variables = self.backbone.variables
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
            A `DiffusionModel`.
        """
        # Of a preset that holds a backbone alone, the rest is default. The
        # base class would look for one task class for each backbone class.
        loader = get_preset_loader(resolve_preset(preset, load_weights))
        loader.check_backbone_class()
        # The base class fails at presets in mixed precision without it.
        kwargs["dtype"] = kwargs.get("dtype") or keras.config.dtype_policy()
        return loader.load_task(cls, load_weights, True, **kwargs)
