from keras import ops

from keras_simple_diffusion.backend.compilation import current_values
from keras_simple_diffusion.distillation.distillation import Distillation
from keras_simple_diffusion.distillation.distillation import grid_index
from keras_simple_diffusion.distillation.distillation import on_grid
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.samplers.ddim_sampler import DDIMSampler
from keras_simple_diffusion.samplers.ddim_sampler import ddim_step
from keras_simple_diffusion.samplers.ddim_sampler import invert_ddim_step
from keras_simple_diffusion.utils.errors import check_number


class ProgressiveDistillation(Distillation):
    """Distillation that halves the number of steps again and again.

    In each phase one DDIM step of the student learns to do two of the teacher.
    The student then becomes the teacher of the next phase. Training beyond
    the last phase continues it. Before, the student draws with the number of
    steps of its phase.

    The learning rate of the paper falls to zero in each phase, without
    averages of the weights, which `compile` therefore leaves out by default.

    Args:
        teacher: see `Distillation`.
        num_steps: int. Number of steps of the student in the last phase.
            Defaults to `4`.
        num_halvings: int. Number of phases. The teacher begins with
            `num_steps * 2 ** num_halvings` steps. Defaults to `4`.
        updates_per_halving: int. Updates of the weights in each phase, 50,000
            in the paper. Defaults to `1000`.
        guidance_scale: see `Distillation`. The first phase removes the
            guidance.
        compile: see `Distillation`.

    Example:
    ```python
    student = keras_simple_diffusion.distillation.ProgressiveDistillation(
        model, num_steps=4, num_halvings=2, updates_per_halving=10
    )
    student.fit({"images": images, "labels": labels}, epochs=20)
    student.save_to_preset("student")
    ```

    References:
        - [Salimans & Ho, 2022](https://arxiv.org/abs/2202.00512), algorithm 2
        - [Meng et al., 2023](https://arxiv.org/abs/2210.03142), for guidance
    """

    def __init__(
        self,
        teacher,
        num_steps=4,
        num_halvings=4,
        updates_per_halving=1000,
        guidance_scale=None,
        compile=True,
    ):
        self.num_halvings = check_number(
            "num_halvings", num_halvings, at_least=1, at_most=16, whole=True
        )
        self.updates_per_halving = check_number(
            "updates_per_halving", updates_per_halving, at_least=1, whole=True
        )
        super().__init__(
            teacher, num_steps, DDIMSampler(), guidance_scale, compile
        )

    def compile(self, optimizer="auto", ema_decay=None, **kwargs):
        """Set how to train, see `DiffusionModel.compile`.

        Args:
            optimizer: see `DiffusionModel.compile`.
            ema_decay: see `DiffusionModel.compile`. Defaults to `None`.
            **kwargs: further arguments of `DiffusionModel.compile`.
        """
        super().compile(optimizer, ema_decay=ema_decay, **kwargs)

    @staticmethod
    def count_passes(is_guided):
        return 2 * (1 + is_guided) + 3

    def place_times(self, time, training):
        return on_grid(time, self._student_steps(self._phase(training)))

    def teach(self, batch, training):
        if training:
            self._succeed_teacher()
        phase = self._phase(training)
        count = self._student_steps(phase)
        step = grid_index(batch.time, count)
        whole = ops.cast(step, "float32")
        count = ops.cast(count, "float32")
        middle = self.schedule((whole + 0.5) / count)
        end = self.schedule(whole / count)
        noisy, log_snr = batch.noisy_images, batch.log_snr
        scale = self.scale_of(batch.conditions)
        scale = ops.where(phase == 0, scale, 1.0)
        first, _ = self.ask_teacher(noisy, log_snr, batch.conditions, scale)
        half_way = ddim_step(first, noisy, log_snr, middle)
        second, _ = self.ask_teacher(half_way, middle, batch.conditions, scale)
        whole_way = ddim_step(second, half_way, middle, end)
        clean = invert_ddim_step(whole_way, noisy, log_snr, end)
        # The last step of sampling returns the prediction itself.
        return ops.where(expand_like(step, clean) == 0, second, clean)

    def finished_model(self):
        (batches,) = self.values_of([self.num_batches])
        phase = self._phase_of(ops.maximum(batches - 1, 0))
        steps = int(self._student_steps(phase))
        self.student.num_steps = self.student.distilled_steps = steps
        return self.student

    def _phase(self, training):
        """Number of the phase, counted from 0, an int32 tensor.

        Outside of training it is that of the last batch: the next may begin a
        phase, and only then the student takes the teacher's place.
        """
        batch = ops.convert_to_tensor(self.num_batches)
        return self._phase_of(batch if training else ops.maximum(batch - 1, 0))

    def _phase_of(self, batch):
        updates = self.updates_before(batch)
        phase = ops.floor_divide(updates, self.updates_per_halving)
        return ops.minimum(phase, self.num_halvings - 1)

    def _student_steps(self, phase):
        remaining = self.num_halvings - 1 - phase
        return self.num_steps * ops.power(2, remaining)

    def _succeed_teacher(self):
        """Let the student take the teacher's place at the start of a phase."""
        teacher = self.teacher_backbone.weights
        is_start = ops.logical_and(
            ops.equal(self.num_updates % self.updates_per_halving, 0),
            ops.logical_and(
                self.num_updates > 0,
                self.num_updates < self.updates_per_halving * self.num_halvings,
            ),
        )
        # Variables cannot be assigned within a branch on JAX.
        values = ops.cond(
            is_start,
            lambda: current_values(self.backbone.weights),
            lambda: current_values(teacher),
        )
        for weight, value in zip(teacher, values, strict=True):
            weight.assign(value)
