"""Plan of a distillation: everything that `distill` chooses by itself."""

import numpy as np

from keras_simple_diffusion.training import planning
from keras_simple_diffusion.training import students
from keras_simple_diffusion.utils.user_text import printable

# Learning rate, as a share of that of finetuning.
_RATES = {"consistency": 1.0, "progressive": 1.0, "moments": 0.1}


def plan_distillation(teacher, preset, student, options):
    """Choose the recipe of a distillation, and describe it.

    Without `steps` the number of updates follows from the measured speed and
    `minutes`.

    Args:
        teacher: a `DiffusionModel` or `TextToImage`, whose weights do not
            matter.
        preset: the `Preset` that it is from.
        student: `StudentSettings`, whose `updates` are not yet chosen.
        options: dict of the settings that are given.

    Returns:
        A tuple of a dict of settings, and a list of lines.

    Raises:
        InputError: if the data or the options are invalid, or if the images
            have other classes than the teacher.
    """
    planning.check_options(options)
    given = dict(options)
    if "minutes" not in given and "steps" not in given:
        given["minutes"] = planning.DEFAULT_MINUTES
    facts = planning.collect_facts(given["data"])
    kind = students.Kind.of(teacher, preset.name)
    kind.match(facts.class_names, facts.has_captions)
    images, speed = np.inf, None
    if "steps" not in given:
        speed = _measure(preset, student, given)
        images = planning.images_within(given["minutes"], speed)
    recipe = planning.choose_recipe(preset, facts, images, preset.name, given)
    recipe |= _adapt(recipe, student)
    chosen = {**recipe, **given}
    lines = _describe(facts, teacher, preset, student, chosen, speed)
    return chosen, lines


def _measure(preset, student, options):
    """Images per second: training costs more passes than the teacher's did."""
    size = preset.backbone_config["image_shape"][:2]
    speed = planning.measure_with(preset, size, options)
    method = students.METHODS[student.method]
    return speed * 3 / method.count_passes(student.guidance_scale != 1.0)


def _adapt(recipe, student):
    """Change a recipe of finetuning to that of a method."""
    rate = recipe["learning_rate"] * _RATES[student.method]
    changes = {"learning_rate": float(f"{rate:.2g}")}
    if student.method == "progressive":
        # Each phase is a training of its own.
        updates = recipe["steps"] / students.count_halvings(student)
        decay = np.clip(1 - 10 / updates, 0.0, 0.9999)
        changes["ema_decay"] = round(float(decay), 5)
    if student.method == "moments":
        changes["beta_1"] = 0.0  # The networks take turns.
    return changes


def _describe(facts, teacher, preset, student, chosen, speed):
    height, width, _ = teacher.backbone.image_shape
    scale = student.guidance_scale
    guidance, guided = "no guidance", "without guidance"
    if isinstance(scale, list):
        guidance = "guidance {:g} to {:g}".format(*scale)
        guided = "with this guidance as an input"
    elif scale != 1.0:
        guidance = f"guidance {scale:g}"
    start = ""
    if "initialize_from" in chosen:
        start = f", from '{printable(chosen['initialize_from'])}'"
    parameters = teacher.backbone.count_params() / 1e6
    lines = [
        f"data       {planning.describe_data(facts)} (see `inspect-data`)",
        f"teacher    {preset.name}, {parameters:.1f} M parameters, "
        f"{teacher.num_steps} steps, {guidance} (--teacher, --guidance)",
        f"student    {student.num_steps} steps {guided}, by the method "
        f"'{student.method}'{start} (--steps, --method)",
        f"size       {height} x {width} pixels, {chosen.get('crop', 'center')} "
        "crop (--crop)",
        f"schedule   {chosen['steps']:,} updates of {chosen['batch_size']} "
        f"images; learning rate {chosen['learning_rate']:g}, rising in the "
        f"first {chosen['warmup_steps']} and falling in the last "
        f"{chosen['cooldown_steps']}; average {chosen['ema_decay']:.4g} "
        "(--updates, --batch-size, ...)",
        f"mirroring  {planning.describe_flip(facts, chosen)}",
    ]
    if speed is not None:
        estimate = planning.minutes_of(chosen, speed)
        lines.append(
            f"time       {planning.describe_time(chosen, speed, estimate)}"
        )
    return lines
