import contextlib

import keras
import keras_hub
from keras import ops
from keras_hub.src.utils.preset_utils import get_preset_loader

from keras_simple_diffusion.distribution import processes
from keras_simple_diffusion.distribution.strategies import check_distribution
from keras_simple_diffusion.losses.diffusion_loss import DiffusionLoss
from keras_simple_diffusion.models import generation
from keras_simple_diffusion.models.guard import warn_unusual
from keras_simple_diffusion.models.image_generation import ImageGeneration
from keras_simple_diffusion.models.sampling_program import Network
from keras_simple_diffusion.models.training_data import check_arrays
from keras_simple_diffusion.models.training_data import split_inputs
from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import check_prediction_type
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.ops.pictures import from_uint8
from keras_simple_diffusion.optimizers.averaged_optimizer import wrap_optimizer
from keras_simple_diffusion.samplers.ddpm_sampler import DDPMSampler
from keras_simple_diffusion.schedules.shifted_cosine_schedule import (
    ShiftedCosineSchedule,
)
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_folder
from keras_simple_diffusion.utils.presets import resolve_preset

# The seed of the noise of `evaluate`, the same in every call.
_EVALUATION_SEED = 0x51D20000


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DiffusionModel(ImageGeneration, keras_hub.models.Task):
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
        self.seed_generator = keras.random.SeedGenerator(name="training_seed")
        self.evaluation_seed_generator = keras.random.SeedGenerator(
            _EVALUATION_SEED, name="evaluation_seed"
        )
        self.compiled_programs = {}
        self.built = True  # All variables are the backbone's.
        if compile:
            self.compile()

    # === Training ===

    def compile(
        self, optimizer="auto", sampler=None, ema_decay=0.9999, **kwargs
    ):
        """Set how to train and how to sample.

        Args:
            optimizer: a `keras.optimizers.Optimizer`, or its name. `"auto"`
                is the paper's for the U-ViT: Adam at a learning rate of 1e-4
                with `beta_2=0.99`, `epsilon=1e-12` and gradients clipped to a
                norm of 1.
            sampler: a `keras_simple_diffusion.samplers.Sampler`. Defaults to
                the model's.
            ema_decay: float or `None`. Decay of the average of the weights,
                see `keras_simple_diffusion.optimizers.AveragedOptimizer`;
                `None` keeps no average. Defaults to `0.9999`.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile` and
                `auto_scale_loss` of `keras.Model.compile`.
        """
        check_distribution()
        if optimizer == "auto":
            optimizer = keras.optimizers.Adam(
                1e-4, beta_2=0.99, epsilon=1e-12, global_clipnorm=1.0
            )
        optimizer = keras.optimizers.get(optimizer)
        self._compile_arguments = {
            "optimizer": optimizer,
            "sampler": sampler,
            "ema_decay": ema_decay,
            **kwargs,
        }
        if sampler is not None:
            self.sampler = sampler
        previous = getattr(self, "_averaged_optimizer", None)
        # Keras scales the loss of a float16 model; ours is float32 around a
        # float16 backbone.
        is_half = self.backbone.compute_dtype == "float16"
        scale_loss = kwargs.pop("auto_scale_loss", True) and is_half
        optimizer, averaged = wrap_optimizer(optimizer, ema_decay, scale_loss)
        self._averaged_optimizer = averaged
        if averaged and previous is not None and previous.has_averages():
            averaged.build(self.trainable_variables)
            averaged.copy_averages(previous)
        super().compile(optimizer=optimizer, **kwargs)
        self.compiled_programs = {}

    def get_compile_config(self):
        config = keras.saving.serialize_keras_object(self._compile_arguments)
        return {"arguments": config, "is_trained": self.optimizer.built}

    def compile_from_config(self, config):
        self.compile(
            **keras.saving.deserialize_keras_object(config["arguments"])
        )
        if config["is_trained"]:
            # Its variables are there to be loaded.
            self.optimizer.build(self.trainable_variables)

    # `keras_hub` maps its preprocessing over a dataset of single examples;
    # without any, Keras feeds arrays and every kind of dataset directly.

    def fit(self, x=None, *args, validation_data=None, **kwargs):
        """Train, see `keras.Model.fit`.

        Args:
            x: dict with `"images"` and, for a class-conditional model,
                `"labels"`, or the images alone: arrays, or a `tf.data` or
                Grain dataset, a `keras.utils.PyDataset` or a torch
                `DataLoader` of such batches, the last one of tuples `(x,)`.
                Images are `uint8` in `[0, 255]`, or float in `[-1, 1]`, of
                shape `(N, H, W, C)`; labels are integers of shape `(N,)`.
            *args: further arguments of `keras.Model.fit`.
            validation_data: like `x`.
            **kwargs: further arguments of `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.
        """
        check_arrays(x, self.backbone)
        check_arrays(validation_data, self.backbone)
        return keras.Model.fit(
            self, x, *args, validation_data=validation_data, **kwargs
        )

    def evaluate(self, x=None, *args, **kwargs):
        """Measure the loss, with the same noise in every call.

        Args:
            x: see `fit`.
            *args: further arguments of `keras.Model.evaluate`.
            **kwargs: further arguments of `keras.Model.evaluate`.

        Returns:
            What `keras.Model.evaluate` returns.
        """
        check_arrays(x, self.backbone)
        self.evaluation_seed_generator.state.assign([_EVALUATION_SEED, 0])
        return keras.Model.evaluate(self, x, *args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        return keras.Model.train_on_batch(self, *args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        return keras.Model.test_on_batch(self, *args, **kwargs)

    def call(self, inputs, training=False):
        images, labels = split_inputs(inputs, self.backbone)
        images = from_uint8(images)
        generator = self.evaluation_seed_generator
        if training:
            generator = self.seed_generator
        # Times in the first column, label dropout in the second.
        uniform = keras.random.uniform(
            (ops.shape(images)[0], 2), dtype="float32", seed=generator
        )
        noise = keras.random.normal(
            ops.shape(images), dtype="float32", seed=generator
        )
        t = uniform[:, 0]
        log_snr = self.schedule(t)
        alpha, sigma = alpha_sigma(expand_like(log_snr, images))
        if labels is not None:
            labels = ops.cast(labels, "int32")
            if training:
                labels = ops.where(
                    uniform[:, 1] < self.label_dropout,
                    self.backbone.num_classes,
                    labels,
                )
        network = Network(self.backbone, self.prediction_type)
        prediction = network.predict(
            alpha * images + sigma * noise, log_snr, labels, training
        )
        target = {
            "v": alpha * noise - sigma * images,
            "epsilon": noise,
            "x": images,
        }
        return {
            "target": target[self.prediction_type],
            "prediction": prediction,
            "log_snr": log_snr,
            "log_snr_derivative": self.schedule.derivative(t),
        }

    def compute_loss(
        self,
        x=None,
        y=None,
        y_pred=None,
        sample_weight=None,
        training=True,
    ):
        losses = self.diffusion_loss(
            prediction_type=self.prediction_type, **y_pred
        )
        if sample_weight is not None:
            losses = losses * ops.cast(sample_weight, "float32")
        loss = ops.mean(losses)
        for penalty in self.losses:
            loss = loss + ops.sum(ops.cast(penalty, "float32"))
        return loss

    @contextlib.contextmanager
    def averaged_weights(self):
        """Context in which the model has the averaged weights.

        `generate` and `save_to_preset` use it themselves. Without an average
        it changes nothing.
        """
        optimizer = self._averaged_optimizer
        if optimizer is None or not optimizer.has_averages():
            yield
            return
        with optimizer.averaged_weights():
            yield

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
        return loader.load_task(cls, load_weights, True, **kwargs)
