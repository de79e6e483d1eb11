"""Distillation of a model into a student of few steps, as a run."""

import dataclasses

from keras_simple_diffusion.backend.choice import check_training
from keras_simple_diffusion.distillation.distillation import check_guidance
from keras_simple_diffusion.training import students
from keras_simple_diffusion.training.distillation_plan import plan_distillation
from keras_simple_diffusion.training.folder import RunFolder
from keras_simple_diffusion.training.planning import output_for
from keras_simple_diffusion.training.run import Run
from keras_simple_diffusion.training.run import distributed
from keras_simple_diffusion.training.run import say
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.settings import StudentSettings
from keras_simple_diffusion.training.settings import check_names
from keras_simple_diffusion.training.settings import names_of_options

# Settings that are the teacher's, or have no meaning here.
_NO_OPTIONS = {
    *("preset", "image_size", "rematerialize", "schedule", "stratified"),
    *("snapshots", "aspect_buckets"),
}


def distill_run(
    teacher,
    data,
    output=None,
    num_steps=4,
    method="consistency",
    guidance_scale=None,
    **options,
):
    """Distill a model into one that draws in a few steps, as a run.

    The run is that of `train_run`, with the same files; `resume_run` continues
    it. Its `preset/` is the student's, which draws with its own number of
    steps and without guidance. `samples/teacher.png` is a sheet of the
    teacher's, from the same noise as the student's.

    The recipe follows from the teacher's and the number of updates, and the
    number of updates, unless `steps` is given, from `minutes` and the speed of
    the machine.

    Args:
        teacher: string, path or `keras_simple_diffusion.models.Preset`. A run
            or a preset with weights.
        data: string. Images of the kind that the teacher was trained on, see
            `train_run`. A teacher of classes needs images of its classes.
        output: path of the run folder, which must be new or empty. Defaults
            to a new folder `runs/NAME-K-steps`, named after the teacher.
        num_steps: int. Number of steps of the student. Defaults to `4`.
        method: string. `"consistency"`, `"progressive"` or `"moments"`, see
            `keras_simple_diffusion.distillation`. Defaults to
            `"consistency"`.
        guidance_scale: float. Guidance of the teacher, which the student
            learns; or a tuple `(low, high)`, for a student whose guidance
            scale in this range is chosen when it draws. Defaults to the
            teacher's.
        **options: fields of `Recipe`, of which `steps` is the number of
            updates, and of `RunSettings`: `dtype`, `seed`, `embeddings`,
            `minutes`, `checkpoint_every`, `samples_every`, `quick_fid`,
            `feature_weights`, `keep`, `workers`, `crop`, `distribution`,
            `log`, `initialize_from`. The last is a run or preset of an earlier
            student of this teacher, whose weights the student starts with in
            place of the teacher's. `None` stands for the default.

    Returns:
        The student, a `DiffusionModel` or `TextToImage`.

    Raises:
        InputError: if data, teacher or settings are invalid.
        Interrupted: if a signal ended the training; the run is saved.

    Example:
    ```python
    model.save_to_preset("teacher")
    student = keras_simple_diffusion.training.distill_run(
        "teacher", "digits", "runs/student", num_steps=2, steps=2
    )
    ```
    """
    check_training()
    known = [name for name in names_of_options() if name not in _NO_OPTIONS]
    check_names(options, known, "`distill_run`")
    options = {k: v for k, v in options.items() if v is not None}
    preset = students.open_teacher(teacher)
    if output is None:
        output = output_for(f"{preset.name}-{num_steps}-steps")
    folder = RunFolder(output)
    folder.check_is_outside(data)
    folder.check_is_free()
    # A model without weights tells what the plan has to know.
    described = preset.load(load_weights=False, **preset.guide())
    if guidance_scale is None:
        guidance_scale = described.guidance_scale
    if isinstance(guidance_scale, tuple):
        guidance_scale = list(guidance_scale)
    start = None
    student = StudentSettings(method, num_steps, guidance_scale, updates=1)
    check_guidance(described, student.guidance_scale)
    if "initialize_from" in options:
        start = students.open_start(
            options["initialize_from"], described, student
        )
        options["initialize_from"] = start.name
    options["data"] = data
    chosen, lines = plan_distillation(described, preset, student, options)
    say("\n".join(lines))
    student = dataclasses.replace(student, updates=chosen["steps"])
    settings = RunSettings.from_preset(
        preset, {**chosen, "student": student, "plan": lines}
    )
    with distributed(settings, preset):
        run, sheet = _prepare(folder, preset, settings, start)
        with folder.held():  # Nothing is written before this line.
            folder.check_is_free()
            run.start({"teacher": sheet})
            return run.train()


def _prepare(folder, preset, settings, start):
    """Return a new run, and a sheet of its teacher, which is then freed."""
    model = preset.load(dtype=settings.dtype)
    images = students.open_images(model, preset, settings)

    def build():
        distillation = students.build_distillation(model, images, settings)
        if start is not None:
            students.initialize(distillation, start)
        return distillation

    run = Run(folder.path, settings, images, build)
    return run, run.draw_beside(model, preset.name)
