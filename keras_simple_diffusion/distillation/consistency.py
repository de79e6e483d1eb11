import math

from keras import ops

from keras_simple_diffusion.distillation.distillation import Distillation
from keras_simple_diffusion.distillation.distillation import grid_index
from keras_simple_diffusion.distillation.distillation import on_grid
from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler
from keras_simple_diffusion.samplers.ddim_sampler import ddim_step
from keras_simple_diffusion.samplers.ddim_sampler import invert_ddim_step
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number

# Share of the measured error of the teacher that is taken as variance.
_VARIANCE_SHARE = 0.75
# Root mean square of an image's errors below which its loss is a square.
_SMOOTHING = 1e-4


class ConsistencyDistillation(Distillation):
    """Multistep consistency distillation.

    Time is divided into `num_steps` ranges. From anywhere in a range the
    student learns to predict the clean images with which one DDIM step reaches
    the start of this range. Its target is one short step of the teacher (by
    aDDIM), followed by its own prediction. The teacher's number of steps grows
    during training: few steps learn fast, many are accurate.

    The loss of an image is the norm of its error in v. At the `k`-th step of a
    range the target is the student's own prediction but for one part in `k`, so
    that squares would fall as `1 / k^2`, and hardly teach the last step, at
    which the student draws.

    Args:
        teacher: see `Distillation`.
        num_steps: int. Number of steps of the student, and of ranges.
            Defaults to `4`.
        teacher_steps: tuple of two ints. Number of steps of the teacher at
            the beginning and at the end, rounded to multiples of `num_steps`.
            Defaults to `(64, 1280)`.
        annealing_updates: int. Number of updates of the weights in which the
            teacher's steps grow. Defaults to `100_000`.
        use_teacher: bool. `False` takes the images of the data in place of
            the teacher's predictions: consistency training, for which the
            teacher gives the initial weights alone. Defaults to `True`.
        guidance_scale: see `Distillation`.
        compile: see `Distillation`.

    Example:
    ```python
    student = keras_simple_diffusion.distillation.ConsistencyDistillation(
        model, num_steps=4
    )
    student.fit({"images": images, "labels": labels}, epochs=1)
    images = student.generate(labels=[3, 4])
    ```

    References:
        - [Heek et al., 2024](https://arxiv.org/abs/2403.06807), algorithms
          1 to 3, eq. 4, 5 and 9
    """

    def __init__(
        self,
        teacher,
        num_steps=4,
        teacher_steps=(64, 1280),
        annealing_updates=100_000,
        use_teacher=True,
        guidance_scale=None,
        compile=True,
    ):
        first, last = teacher_steps
        for count in (first, last):
            check_number("teacher_steps", count, at_least=num_steps, whole=True)
        self.teacher_steps = (first, last)
        self.annealing_updates = check_number(
            "annealing_updates", annealing_updates, at_least=1, whole=True
        )
        self.use_teacher = use_teacher
        if guidance_scale is None and not use_teacher:
            guidance_scale = 1.0
        super().__init__(
            teacher, num_steps, DDIMSampler(), guidance_scale, compile
        )
        if self.guidance_scale != 1.0 and not use_teacher:
            raise InputError(
                "Images of the data are not guided: leave out `guidance_scale` "
                "or `use_teacher=False`. Received: "
                f"guidance_scale={guidance_scale}"
            )

    @staticmethod
    def count_passes(is_guided):
        # Of the teacher, and of the student with and without gradients.
        return 1 + is_guided + 1 + 3

    def place_times(self, time, training):
        return on_grid(time, self.num_steps * self._steps_per_range())

    def teach(self, batch, training):
        per_range = self._steps_per_range()
        count = ops.cast(self.num_steps * per_range, "float32")
        step = grid_index(batch.time, self.num_steps * per_range)
        start = ops.floor_divide(step, per_range) * per_range
        next_log_snr = self.schedule(ops.cast(step, "float32") / count)
        end = self.schedule(ops.cast(start, "float32") / count)
        noisy, log_snr = batch.noisy_images, batch.log_snr
        clean, variance = batch.images, None
        if self.use_teacher:
            clean, unguided = self.ask_teacher(noisy, log_snr, batch.conditions)
            error = ops.square(unguided - batch.images)
            variance = _VARIANCE_SHARE * ops.mean(error, axis=(1, 2, 3))
        next_noisy = ddim_step(clean, noisy, log_snr, next_log_snr, variance)
        # The student itself, without gradients, from there to the end.
        predicted = ops.stop_gradient(
            self.predict_clean(
                self.backbone, next_noisy, next_log_snr, batch.conditions
            )
        )
        reached = ddim_step(predicted, next_noisy, next_log_snr, end)
        return invert_ddim_step(reached, noisy, log_snr, end)

    def image_losses(self, **outputs):
        squares = super().image_losses(**outputs)
        # Without cancellation where both are small.
        return squares / (ops.sqrt(squares + _SMOOTHING**2) + _SMOOTHING)

    def _steps_per_range(self):
        """Steps of the teacher in each range, an int32 scalar tensor."""
        updates = ops.cast(self.num_updates, "float32")
        share = ops.minimum(updates / self.annealing_updates, 1.0)
        first, last = map(math.log, self.teacher_steps)
        count = ops.exp(first + share * (last - first)) / self.num_steps
        return ops.cast(ops.maximum(ops.round(count), 1.0), "int32")
