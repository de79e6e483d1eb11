import keras
from keras import ops

from keras_simple_diffusion.distillation.distillation import Distillation
from keras_simple_diffusion.distillation.distillation import copy_network
from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import error_scale
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.samplers.ddpm_sampler import DDPMSampler


class MomentMatching(Distillation):
    """Distillation that matches moments of the student's images.

    The student predicts clean images, from which the noisy images of the end
    of its step are drawn as by `DDPMSampler(0)`. On these, an auxiliary network
    learns the mean of the student's clean images, and the student is moved
    until this mean is that of the teacher. Even updates train the auxiliary
    network, odd ones the student. Dropout of the student is on. `evaluate`
    measures the loss of the auxiliary network.

    The papers train with `keras_simple_diffusion.optimizers.Adam` at 1e-5 and
    `beta_1=0`; without momentum each update moves one of the networks alone.
    Three networks and the gradients of two are held in memory, and the
    guidance model if the teacher has one.

    Args:
        teacher: see `Distillation`.
        num_steps: int. Number of steps of the student. Defaults to `4`.
        guidance_scale: see `Distillation`.
        compile: see `Distillation`.

    Example:
    ```python
    student = keras_simple_diffusion.distillation.MomentMatching(
        model, num_steps=4
    )
    student.fit({"images": images, "labels": labels}, epochs=1)
    images = student.generate(labels=[3, 4])
    ```

    References:
        - [Salimans et al., 2024](https://arxiv.org/abs/2406.04103),
          algorithm 2
    """

    def __init__(self, teacher, num_steps=4, guidance_scale=None, compile=True):
        super().__init__(
            teacher, num_steps, DDPMSampler(0.0), guidance_scale, compile=False
        )
        self.auxiliary_backbone = copy_network(self.backbone)
        if compile:
            self.compile()

    def compile(self, optimizer="auto", **kwargs):
        """Set how to train, see `DiffusionModel.compile`.

        Args:
            optimizer: see `DiffusionModel.compile`. `"auto"` is Adam at a
                learning rate of 1e-5 with `beta_1=0`, `beta_2=0.99`,
                `epsilon=1e-12` and gradients clipped to a norm of 1.
            **kwargs: further arguments of `DiffusionModel.compile`.
        """
        if optimizer == "auto":
            optimizer = keras.optimizers.Adam(
                1e-5,
                beta_1=0.0,
                beta_2=0.99,
                epsilon=1e-12,
                global_clipnorm=1.0,
            )
        super().compile(optimizer, **kwargs)

    @staticmethod
    def count_passes(is_guided):
        # Both networks have gradients in each update.
        return 1 + is_guided + 2 * 3

    def compute_outputs(self, inputs, training):
        batch = self.noisy_batch(inputs, training)
        images, conditions = batch.images, batch.conditions
        step = self.draw_like(images, keras.random.uniform, training)
        fresh = self.draw_like(
            images, keras.random.normal, training, images.shape[1:]
        )
        end = ops.maximum(batch.time - step / self.num_steps, 0.0)
        log_snr = self.schedule(end)
        clean = self.predict_clean(
            self.backbone,
            batch.noisy_images,
            batch.log_snr,
            conditions,
            training=training,
        )
        noisy = ops.stop_gradient(
            draw_posterior(
                clean, batch.noisy_images, batch.log_snr, log_snr, fresh
            )
        )
        auxiliary = self.predict_clean(
            self.auxiliary_backbone, noisy, log_snr, conditions
        )
        teacher, _ = self.ask_teacher(noisy, log_snr, conditions)
        weight = error_scale(log_snr, "x", "v")
        losses = auxiliary_loss(clean, auxiliary, teacher, weight)
        if training:
            losses = ops.where(
                ops.equal(self.num_updates % 2, 0),
                losses,
                generator_loss(clean, auxiliary, teacher, weight),
            )
        self.count(training)
        return {
            "losses": losses,
            "time": batch.time,
            "num_bad": batch.num_bad,
        }

    def image_losses(self, losses):
        return losses


def draw_posterior(clean_images, noisy_images, log_snr, next_log_snr, noise):
    """Draw less noisy images, given the clean ones.

    Args:
        clean_images: float32 tensor of shape `(B, H, W, C)`.
        noisy_images: float32 tensor of the same shape, at `log_snr`.
        log_snr: float32 tensor of shape `(B,)`.
        next_log_snr: float32 tensor of shape `(B,)`, at least `log_snr`.
        noise: float32 tensor shaped like the images, standard normal.

    Returns:
        A float32 tensor of the same shape.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), eq. 3
    """
    log_snr = expand_like(log_snr, noisy_images)
    next_log_snr = expand_like(next_log_snr, noisy_images)
    alpha, _ = alpha_sigma(log_snr)
    next_alpha, next_sigma = alpha_sigma(next_log_snr)
    ratio = ops.exp(log_snr - next_log_snr)
    share = -ops.expm1(log_snr - next_log_snr)
    mean = ratio * (next_alpha / alpha) * noisy_images
    mean = mean + share * next_alpha * clean_images
    return mean + ops.sqrt(share) * next_sigma * noise


def auxiliary_loss(clean, auxiliary, teacher, weight):
    """Loss of the auxiliary network, the squared error in v.

    Args:
        clean: float32 tensor of shape `(B, H, W, C)`, images of the student.
        auxiliary: float32 tensor, the prediction of the auxiliary network
            from these images with noise.
        teacher: float32 tensor, the prediction of the teacher.
        weight: float32 tensor of shape `(B,)`, `1 / sigma`.

    Returns:
        A float32 tensor of shape `(B,)`.

    References:
        - [Salimans et al., 2024](https://arxiv.org/abs/2406.04103),
          algorithm 2, whose second term keeps this network near the teacher
    """
    errors = ops.square(ops.stop_gradient(clean) - auxiliary)
    errors = errors + ops.square(ops.stop_gradient(teacher) - auxiliary)
    return ops.square(weight) * ops.mean(errors, axis=(1, 2, 3))


def generator_loss(clean, auxiliary, teacher, weight):
    """Loss of the student, whose gradient is the difference of two means.

    With the weight `1 / sigma` this difference is one in v, which no noise
    level dominates.

    Args:
        clean: see `auxiliary_loss`.
        auxiliary: see `auxiliary_loss`.
        teacher: see `auxiliary_loss`.
        weight: see `auxiliary_loss`.

    Returns:
        A float32 tensor of shape `(B,)`.

    References:
        - [Salimans et al., 2024](https://arxiv.org/abs/2406.04103),
          algorithm 2
    """
    difference = ops.stop_gradient(auxiliary - teacher)
    return weight * ops.mean(clean * difference, axis=(1, 2, 3))
