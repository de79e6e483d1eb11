import keras
from keras import ops

from keras_simple_diffusion.backend.replicas import own_part
from keras_simple_diffusion.backend.replicas import whole_size
from keras_simple_diffusion.generation import arguments
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.losses.diffusion_loss import DiffusionLoss
from keras_simple_diffusion.models.backbone import check_guidance_range
from keras_simple_diffusion.models.denoising_trainer import DenoisingTrainer
from keras_simple_diffusion.models.diffusion_task import DiffusionTask
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.optimizers.wrapper import unwrap
from keras_simple_diffusion.samplers.guidance import classifier_free_guidance
from keras_simple_diffusion.text.pretrained_text_encoder import (
    PretrainedTextEncoder,
)
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number


class Distillation(DenoisingTrainer):
    """Base class of the methods of distillation.

    It holds the student, a model of the teacher's class that starts with the
    teacher's averaged weights, and a frozen copy of the teacher's network
    without dropout. A frozen copy of a text encoder is shared by both. The
    student is trained towards clean images that a subclass defines by `teach`,
    on the noise levels of `place_times`. Its loss is the squared error in `v`,
    or what a subclass makes of it in `image_losses`, whatever the teacher's: of
    the common losses it is the one that does not vanish at time 1, where each
    drawing begins. It always receives the condition, and learns the guided
    prediction.

    Args:
        teacher: a trained `DiffusionModel` or `TextToImage`, which is not
            changed.
        num_steps: int. Number of steps of the student.
        sampler: the `keras_simple_diffusion.samplers.Sampler` of the student.
        guidance_scale: float, guidance of the teacher, which the student
            draws with but does not compute; or a tuple `(low, high)`. The
            network of the student then receives the scale as an input, which
            is uniform in this range in training, and `generate` takes any
            `guidance_scale` of it. Defaults to the teacher's. Outside of the
            teacher's `guidance_interval` there is no guidance.
        compile: bool. Whether to compile with the defaults of `compile`.
            Defaults to `True`.
    """

    def __init__(
        self, teacher, num_steps, sampler, guidance_scale=None, compile=True
    ):
        if not isinstance(teacher, DiffusionTask):
            raise InputError(
                "`teacher` must be a model, such as DiffusionModel.from_preset"
                f"('runs/digits'). Received: a {type(teacher).__name__}"
            )
        num_steps = check_number("num_steps", num_steps, at_least=1, whole=True)
        if guidance_scale is None:
            guidance_scale = teacher.guidance_scale
        guidance_range = None
        if isinstance(guidance_scale, (tuple, list)):
            guidance_range = check_guidance_range(
                "guidance_scale", guidance_scale
            )
            guidance_scale = guidance_range
        check_guidance(teacher, guidance_scale)
        network = teacher.backbone
        if network.guidance_range not in (None, guidance_range):
            raise InputError(
                "The teacher is a student itself, for guidance scales of "
                f"{network.guidance_range}. Distill the model that it was "
                "distilled from."
            )
        student = _copy_model(teacher, sampler, num_steps, guidance_range)
        self.student = student
        super().__init__(
            backbone=student.backbone,
            # The student learns the steps that it will take.
            schedule=student.schedule.sampling_schedule,
            loss=DiffusionLoss("v", base_size=student.diffusion_loss.base_size),
            prediction_type=student.prediction_type,
            stratified=student.stratified,
        )
        self.student = student  # Keras lists only what is assigned from here.
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self.teacher_backbone = copy_network(student.backbone)
        self.teacher_backbone.trainable = False
        if student.guidance_model is not None:  # So that Keras lists it.
            self.weak_backbone = student.guidance_model.backbone
            self.weak_backbone.trainable = False
        if hasattr(student, "text_encoder"):
            student.text_encoder.trainable = False
        self.num_batches = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="num_batches",
        )
        # The student draws with the averages that are kept here, and its
        # guide with the values.
        for model in filter(None, (student, student.guidance_model)):
            model.averages = self.averages
            model.step_lock = self.step_lock
        if compile:
            self.compile()

    # === Data, as for the student ===

    @property
    def num_values(self):
        return self.student.num_values

    def prepare_data(self, x):
        return self.student.prepare_data(x)

    def split_inputs(self, inputs):
        return self.student.split_inputs(inputs)

    def condition(self, conditions, dropout):
        # Without guidance the student needs no dropped conditions.
        is_training = dropout is not None
        conditions = self.student.condition(conditions, None)
        if self.backbone.guidance_range is None:
            return conditions
        low, high = self.backbone.guidance_range
        like, *_ = conditions.values()
        share = self.draw_like(like, keras.random.uniform, is_training)
        return {**conditions, "guidance_scale": low + share * (high - low)}

    # === Training ===

    @staticmethod
    def count_passes(is_guided):
        """Count the forward passes of training on an image, gradients as two.

        Args:
            is_guided: bool. `True` if the teacher is guided.
        """
        raise NotImplementedError("The method must define this.")

    @property
    def num_passes(self):
        return self.count_passes(self.guidance_scale != 1.0)

    def teach(self, batch, training):
        """Compute the clean images that the student shall predict.

        Args:
            batch: a `NoisyBatch`.
            training: bool.

        Returns:
            A float32 tensor of shape `(B, H, W, C)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def compute_outputs(self, inputs, training):
        batch = self.noisy_batch(inputs, training)
        clean = ops.stop_gradient(self.teach(batch, training))
        noisy, log_snr = batch.noisy_images, batch.log_snr
        network = Network(self.backbone, self.prediction_type)
        self.count(training)
        return {
            "target": convert_prediction(
                clean, noisy, log_snr, "x", self.prediction_type
            ),
            # No dropout: the target is no sample of random images.
            "prediction": network.predict(noisy, log_snr, batch.conditions),
            "time": batch.time,
            "num_bad": batch.num_bad,
            "log_snr": log_snr,
            "log_snr_derivative": self.schedule.derivative(batch.time),
        }

    def count(self, training):
        """Count a batch of training, at the end of `call`."""
        if training:
            self.num_batches.assign_add(1)

    @property
    def num_updates(self):
        """Number of updates of the weights before this batch, int32."""
        return self.updates_before(ops.convert_to_tensor(self.num_batches))

    def updates_before(self, batch):
        """Number of updates of the weights before a batch, int32."""
        innermost = unwrap(self.optimizer)[-1]
        count = innermost.gradient_accumulation_steps or 1
        return ops.floor_divide(batch, count)

    def predict_clean(self, backbone, noisy_images, log_snr, conditions, **kw):
        """Predict clean images with one of the networks.

        Args:
            backbone: a network like the student's.
            noisy_images: float32 tensor of shape `(B, H, W, C)`.
            log_snr: float32 tensor of shape `(B,)`.
            conditions: dict of the network's further inputs.
            **kw: `training`, whether dropout is on. Defaults to `False`.

        Returns:
            A float32 tensor shaped like `noisy_images`.
        """
        network = Network(backbone, self.prediction_type)
        prediction = network.predict(noisy_images, log_snr, conditions, **kw)
        return network.convert(prediction, noisy_images, log_snr, "x")

    def predict_weakly(self, noisy_images, log_snr, conditions):
        """Predict the clean images that the teacher is guided away from.

        Args:
            noisy_images: float32 tensor of shape `(B, H, W, C)`.
            log_snr: float32 tensor of shape `(B,)`.
            conditions: dict of the network's further inputs.

        Returns:
            A float32 tensor shaped like `noisy_images`.
        """
        null = conditions and self.student.null_conditions(conditions)
        guide = self.student.guidance_model
        if guide is None:
            return self.predict_clean(
                self.teacher_backbone, noisy_images, log_snr, null
            )
        network = Network(guide.backbone, guide.prediction_type)
        # It does not take the scale that the student may take.
        null = {k: v for k, v in null.items() if k != "guidance_scale"}
        prediction = network.predict(noisy_images, log_snr, null)
        return network.convert(prediction, noisy_images, log_snr, "x")

    def ask_teacher(self, noisy_images, log_snr, conditions, scale=None):
        """Predict clean images with the teacher, with and without guidance.

        Outside of the teacher's interval of guidance both are the same.

        Args:
            noisy_images: float32 tensor of shape `(B, H, W, C)`.
            log_snr: float32 tensor of shape `(B,)`.
            conditions: dict of the network's further inputs.
            scale: optional tensor in place of `scale_of(conditions)`.

        Returns:
            A tuple of the guided and the conditional prediction, float32
            tensors without gradients.
        """
        noisy_images = ops.stop_gradient(noisy_images)
        arguments = self.teacher_backbone, noisy_images, log_snr
        clean = self.predict_clean(*arguments, conditions)
        guided = clean
        if self.guidance_scale != 1.0:
            guided = classifier_free_guidance(
                clean,
                self.predict_weakly(noisy_images, log_snr, conditions),
                self.scale_of(conditions) if scale is None else scale,
            )
            # The student keeps it, for runs that are resumed from its preset.
            if self.student.guidance_interval is not None:
                low, high = self.student.guidance_interval
                is_inside = ops.logical_and(log_snr >= low, log_snr <= high)
                guided = ops.where(expand_like(is_inside, clean), guided, clean)
        return ops.stop_gradient(guided), ops.stop_gradient(clean)

    def scale_of(self, conditions):
        """Return the guidance scale of a batch, for each image or for all.

        Args:
            conditions: dict of the network's further inputs.

        Returns:
            A float, or a float32 tensor of shape `(B, 1, 1, 1)`.
        """
        if self.backbone.guidance_range is None:
            return self.guidance_scale
        return ops.reshape(conditions["guidance_scale"], (-1, 1, 1, 1))

    def draw_like(self, images, draw, training, shape=()):
        """Draw random numbers for each image, the same on every device.

        Args:
            images: tensor of shape `(B, ...)`.
            draw: `keras.random.normal` or `keras.random.uniform`.
            training: bool. `evaluate` draws the same numbers in every call.
            shape: tuple of ints, the shape for one image. Defaults to `()`.

        Returns:
            A float32 tensor of shape `(B, *shape)`.
        """
        generator = self.evaluation_seed_generator
        if training:
            generator = self.seed_generator
        size = whole_size(ops.shape(images)[0])
        numbers = draw((size, *shape), dtype="float32", seed=generator)
        return own_part(numbers)

    # === The student ===

    def finished_model(self):
        """Return the student, with the number of steps it is trained for."""
        return self.student

    @property
    def own_variables(self):
        own = {id(variable) for variable in self.student.own_variables}
        borrowed = {id(v) for v in self.student.variables} - own
        return [v for v in self.variables if id(v) not in borrowed]

    def generate(self, *args, **kwargs):
        """Draw images with the student, see `generate` of its class."""
        return self.finished_model().generate(*args, **kwargs)

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Write a preset of the student, with the averaged weights.

        Args:
            preset_dir: path of the folder.
            max_shard_size: see `keras_hub.models.Task.save_to_preset`.
        """
        self.recover_values()
        student = self.finished_model()
        student.save_to_preset(preset_dir, max_shard_size)


def check_guidance(teacher, guidance_scale):
    """Raise an `InputError` if a teacher cannot be guided by a scale.

    Args:
        teacher: a `DiffusionModel` or `TextToImage`.
        guidance_scale: float, or two of them for a student that receives it.
    """
    is_range = isinstance(guidance_scale, (tuple, list))
    for scale in guidance_scale if is_range else [guidance_scale]:
        arguments.check_guidance(scale, arguments.can_guide(teacher))
    network = teacher.backbone
    if is_range and network.num_classes is None and network.context_dim is None:
        raise InputError(
            "A student receives the guidance scale beside a class or a text, "
            "and this teacher draws without: pass one `guidance_scale`. "
            f"Received: guidance_scale={guidance_scale}"
        )


def on_grid(time, size):
    """Move uniform times to the grid `1 / size, 2 / size, ..., 1`.

    Args:
        time: float32 tensor of shape `(B,)`, uniform on `[0, 1)`.
        size: int32 scalar tensor.

    Returns:
        A float32 tensor of shape `(B,)`.
    """
    size = ops.cast(size, "float32")
    return (ops.minimum(ops.floor(time * size), size - 1.0) + 1.0) / size


def grid_index(time, size):
    """Return `i` of times `(i + 1) / size`, an int32 tensor."""
    index = ops.round(time * ops.cast(size, "float32"))
    return ops.cast(index, "int32") - 1


def copy_network(network, guidance_range=None):
    """Copy a network with its weights.

    Args:
        network: a `DiffusionBackbone`.
        guidance_range: tuple of two floats, if the copy is to receive the
            guidance scale, which has no effect before it is trained. Defaults
            to that of `network`.

    Returns:
        A `DiffusionBackbone`.
    """
    config = network.get_config()
    if guidance_range is not None:
        config["guidance_range"] = guidance_range
    copy = type(network).from_config(config)
    values = network.get_weights()
    if len(values) < len(copy.weights):
        given = iter(values)
        values = [
            ops.convert_to_numpy(weight)
            if "/guidance_" in weight.path
            else next(given)
            for weight in copy.weights
        ]
    copy.set_weights(values)
    return copy


def _copy_model(teacher, sampler, num_steps, guidance_range):
    """Make a student: a copy of the teacher with its averaged weights."""
    scale = 1.0
    if guidance_range is not None:
        low, high = guidance_range
        scale = min(max(teacher.guidance_scale, low), high)
    changes = {
        "sampler": sampler,
        "num_steps": num_steps,
        "distilled_steps": num_steps,
        "guidance_scale": scale,
    }
    if teacher.guidance_model is not None:
        # For runs that are resumed from the preset of the student.
        changes["guidance_model"] = teacher.guidance_model
    encoder = getattr(teacher, "text_encoder", None)
    is_shared = isinstance(encoder, PretrainedTextEncoder)
    if is_shared:
        changes["text_encoder"] = encoder
    with teacher.averaged_weights():
        changes["backbone"] = copy_network(teacher.backbone, guidance_range)
        student = type(teacher).from_config({**teacher.get_config(), **changes})
        if encoder is not None and not is_shared:
            student.text_encoder.set_weights(encoder.get_weights())
    return student
