import contextlib
import types

import h5py
import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.generation import arguments
from keras_simple_diffusion.generation.arguments import with_sampling_options
from keras_simple_diffusion.generation.conditions import Conditions
from keras_simple_diffusion.generation.conditions import find_labels
from keras_simple_diffusion.models import fit_data
from keras_simple_diffusion.models.backbone import check_backbone
from keras_simple_diffusion.models.diffusion_task import DiffusionTask
from keras_simple_diffusion.models.transfer import copy_model
from keras_simple_diffusion.utils.errors import InputError


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DiffusionModel(DiffusionTask):
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
            images larger than that.
        loss: a `keras_simple_diffusion.losses.DiffusionLoss`. Defaults to
            the squared error in v, as for the paper's U-ViT.
        label_dropout: float. Share of the labels replaced by the null label
            in training. Defaults to `0.1`.
        prediction_type: string. What the network predicts: `"v"`,
            `"epsilon"`, `"x"` or `"flow"`, see
            `keras_simple_diffusion.ops.convert_prediction`. Defaults to
            `"v"`.
        class_names: list of strings or `None`, one a class.
        sampler: the default `keras_simple_diffusion.samplers.Sampler`.
            Defaults to `DDPMSampler()`.
        num_steps: int. The default number of sampling steps. Defaults to
            `256`.
        guidance_scale: float. The default guidance. Defaults to `1.0`.
        stratified: bool. Whether the times of a batch are spread evenly, one
            to each of as many ranges as there are images, which makes the
            loss of a batch less random; each time alone stays uniform. The
            papers draw them independently. Defaults to `False`.
        guidance_model: a weaker `DiffusionModel` for the same images and
            classes. The prediction of a copy of it, without a class, takes the
            place of this model's own where `generate` guides. The averaged
            weights of the copy are stored with the model, and never trained.
            The configuration of such a model gives one of random weights,
            to be loaded next. Defaults to `None`.
        compile: bool. Whether to compile with the defaults of `compile`.
            Defaults to `True`.
        **kwargs: base `keras_hub.models.Task` arguments.

    Example:
    ```python
    images, labels = keras_simple_diffusion.data.load_digits(image_size=16)
    backbone = keras_simple_diffusion.models.UViTBackbone(
        image_shape=(16, 16, 1),
        channels=(16, 32),
        blocks=(1, 2),
        num_classes=10,
    )
    model = keras_simple_diffusion.models.DiffusionModel(backbone)
    model.fit({"images": images, "labels": labels}, batch_size=256, epochs=1)
    images = model.generate(labels=[0, 1, 2], num_steps=16)
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
        guidance_model=None,
        compile=True,
        **kwargs,
    ):
        check_backbone(backbone)
        if backbone.context_dim is not None or backbone.portrait_flag:
            raise InputError(
                "`DiffusionModel` is for images with or without classes, and "
                "this backbone takes text: use `TextToImage`. Received: "
                f"context_dim={backbone.context_dim}, "
                f"portrait_flag={backbone.portrait_flag}"
            )
        arguments.check_dropout("label_dropout", label_dropout)
        arguments.check_guidance(
            guidance_scale,
            backbone.num_classes is not None or guidance_model is not None,
        )
        if class_names is not None and not (
            isinstance(class_names, (list, tuple))
            and all(isinstance(name, str) for name in class_names)
        ):
            raise InputError(
                "`class_names` must be a list of strings. Received: "
                f"{str(class_names)[:300]}"
            )
        if class_names is not None and len(class_names) != backbone.num_classes:
            raise InputError(
                f"`class_names` must name the {backbone.num_classes} classes "
                f"of the backbone. Received: {len(class_names)} names"
            )
        super().__init__(
            backbone=backbone,
            schedule=schedule,
            loss=loss,
            prediction_type=prediction_type,
            sampler=sampler,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            stratified=stratified,
            **kwargs,
        )
        self.guidance_model = guidance_model
        self.label_dropout = label_dropout
        self.class_names = class_names and list(class_names)
        if compile:
            self.compile()

    # === Data ===

    @property
    def num_values(self):
        num_classes = self.backbone.num_classes
        return {} if num_classes is None else {"labels": num_classes + 1}

    def prepare_data(self, x):
        return fit_data.check(
            x, lambda batch: fit_data.check_labelled(batch, self.backbone)
        )

    def split_inputs(self, inputs):
        return fit_data.split_inputs(inputs, self.backbone)

    def condition(self, conditions, dropout):
        if not conditions:
            return {}
        labels = ops.cast(conditions["labels"], "int32")
        if dropout is not None:
            labels = ops.where(
                dropout < self.label_dropout,
                self.backbone.num_classes,
                labels,
            )
        return {"labels": labels}

    def null_conditions(self, conditions):
        labels = conditions["labels"]
        null = ops.full_like(labels, self.backbone.num_classes)
        return {**conditions, "labels": null}

    # === Images ===

    @with_sampling_options
    def generate(self, num_images=None, labels=None, options=None):
        """Draw images, with the averaged weights.

        Args:
            num_images: int. Defaults to the number of labels, or 1.
            labels: list of ints or class names, one per image. Label
                `num_classes` is the null label. Required if the backbone has
                classes.
            {options}

        Returns:
            A `uint8` NumPy array of shape `(num_images, H, W, C)`, or a tuple
            with `return_steps`.

        Example:
        >>> images = model.generate(
        ...     labels=[3] * 16, num_steps=16, guidance_scale=2.0
        ... )
        >>> images.shape, images.dtype
        ((16, 16, 16, 1), dtype('uint8'))
        """
        conditions = self.find_conditions(options, num_images, labels=labels)
        return self.draw(conditions, options)

    def conditions_for(self, count=None, labels=None):
        """Build the conditions of images.

        Args:
            count: int. Number of images. Defaults to that of the labels, or 1.
            labels: see `generate`.

        Returns:
            `Conditions`.
        """
        num_classes = self.backbone.num_classes
        labels = find_labels(labels, num_classes, self.class_names)
        if labels is None:
            return Conditions(arguments.count_images(count, None))
        count = arguments.count_images(count, labels)
        return Conditions(
            count,
            {"labels": labels},
            {"labels": np.full_like(labels, num_classes)},
        )

    @property
    def guidance_model(self):
        """The copy of a weaker model that guides this one, or `None`."""
        return self._guide.model

    @guidance_model.setter
    def guidance_model(self, model):
        if isinstance(model, dict):  # Nobody else has what it describes.
            guide = keras.saving.deserialize_keras_object(model)
            arguments.check_guidance_model(guide, self)
        else:
            arguments.check_guidance_model(model, self)
            guide = None if model is None else copy_model(model)
        # Keras trains and lists what is assigned, unless it is hidden so.
        self._guide = types.SimpleNamespace(model=guide)
        if not arguments.can_guide(self):
            self.guidance_scale = 1.0

    def __setattr__(self, name, value):
        if name == "guidance_model":  # Keras would list it before the setter.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # === Weights and configuration ===

    @contextlib.contextmanager
    def loading_from(self, filepath):
        """Context in which Keras sees a guidance model if a file has one.

        An HDF5 file of a model without one leaves this model's as it is.

        Args:
            filepath: path, see `keras.Model.load_weights`.
        """
        guide = self._guide
        if h5py.is_hdf5(filepath):
            with h5py.File(filepath) as file:
                if "guidance_model" not in file:
                    self._guide = types.SimpleNamespace(model=None)
        try:
            yield
        finally:
            self._guide = guide

    @property
    def own_variables(self):
        guide = self.guidance_model
        return self.variables + (guide.backbone.variables if guide else [])

    def has_task_weights(self):
        return self.guidance_model is not None

    def save_task_weights(self, filepath):
        keras.saving.save_weights(self.guidance_model.backbone, filepath)

    def load_task_weights(self, filepath):
        keras.saving.load_weights(self.guidance_model.backbone, filepath)

    def get_config(self):
        guide = {}
        if self.guidance_model is not None:
            config = keras.saving.serialize_keras_object(self.guidance_model)
            config.pop("compile_config", None)
            guide = {"guidance_model": config}
        return {
            **super().get_config(),
            **guide,
            "label_dropout": self.label_dropout,
            "class_names": self.class_names,
        }
