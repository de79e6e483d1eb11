"""From a teacher and the settings of a run to images and a distillation."""

import dataclasses
import math

import numpy as np

from keras_simple_diffusion import distillation
from keras_simple_diffusion.data.sources import RelabelledSource
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.models.transfer import copy_weights
from keras_simple_diffusion.models.transfer import match_names
from keras_simple_diffusion.text.text_transformer import TextTransformer
from keras_simple_diffusion.training import captions
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import some_of

METHODS = {
    "consistency": distillation.ConsistencyDistillation,
    "progressive": distillation.ProgressiveDistillation,
    "moments": distillation.MomentMatching,
}
# Steps of the teacher: at the beginning and, for consistency, at the end.
_FIRST_STEPS, _LAST_STEPS = 64, 1280


def open_teacher(name):
    """Open the preset of a teacher.

    Args:
        name: string, path or `Preset`.

    Returns:
        A `Preset`.

    Raises:
        InputError: if it has no weights, or is a student itself.
    """
    preset = Preset.open(name)
    if not preset.has_weights:
        raise InputError(
            f"The teacher '{preset.name}' is a configuration without weights. "
            f"Train it first: train --data FOLDER --preset {preset.name}"
        )
    setup.check_is_no_student(preset)
    return preset


def open_start(name, teacher, student):
    """Open the preset of a student that another one starts from.

    Args:
        name: string, path or `Preset`.
        teacher: a `DiffusionModel` or `TextToImage`, whose weights do not
            matter.
        student: `StudentSettings` of the other one.

    Returns:
        A `Preset`.

    Raises:
        InputError: if it has no weights, is no student of this teacher for as
            many steps and the same guidance, or if the method has no use for
            it.
    """
    if student.method == "progressive":
        raise InputError(
            "The method 'progressive' begins with the teacher's steps, so that "
            "it cannot start from a student: leave out `initialize_from`, or "
            "use 'consistency' or 'moments'."
        )
    preset = setup.open_start(name)
    steps = preset.task_config.get("distilled_steps")
    if steps != student.num_steps:
        kind = "is no student" if steps is None else f"draws in {steps} steps"
        raise InputError(
            f"`initialize_from` must be a student for {student.num_steps} "
            f"steps, as the new one. Received: '{preset.name}', which {kind}"
        )
    earlier = preset.load(load_weights=False)
    scales = earlier.backbone.guidance_range
    wanted = student.guidance_scale
    wanted = tuple(wanted) if isinstance(wanted, list) else None
    if scales != wanted:
        raise InputError(
            f"'{preset.name}' takes {_describe_scales(scales)}, and the new "
            f"student is to take {_describe_scales(wanted)}. Leave out "
            "`initialize_from`, or change `guidance_scale`."
        )
    if _facts(earlier) != _facts(teacher):
        raise _other_teacher(preset)
    return preset


def initialize(distillation, preset):
    """Give the student of a new distillation the weights of an earlier one.

    Args:
        distillation: a `Distillation`, not yet compiled.
        preset: the `Preset` of the earlier student, see `open_start`.

    Raises:
        InputError: if the networks or the text encoders differ.
    """
    source, student = preset.load(), distillation.student
    if _encoders_differ(source, student) or copy_weights(source, student).fresh:
        raise _other_teacher(preset)


def _other_teacher(preset):
    return InputError(
        f"'{preset.name}' is no student of this teacher: network, prediction, "
        "classes or text encoder differ. Leave out `initialize_from`, or use a "
        "student of this teacher."
    )


def _describe_scales(scales):
    if scales is None:
        return "no guidance scale"
    return "guidance scales of {:g} to {:g}".format(*scales)


def _facts(model):
    """Collect what a teacher and its student have in common."""
    network = model.backbone.get_config()
    # What may differ; the range is compared by itself.
    others = ("name", "dtype", "trainable", "rematerialize", "guidance_range")
    for name in others:
        network.pop(name, None)
    names = getattr(model, "class_names", None)
    return network, model.prediction_type, names


def _encoders_differ(source, student):
    """Test if two models have different text encoders of their own."""
    theirs, ours = (getattr(m, "text_encoder", None) for m in (source, student))
    if not isinstance(ours, TextTransformer):
        return False
    if not isinstance(theirs, TextTransformer):
        return True
    if theirs.vocabulary != ours.vocabulary:
        return True
    pairs = theirs.get_weights(), ours.get_weights()
    if [a.shape for a in pairs[0]] != [b.shape for b in pairs[1]]:
        return True
    # Presets may hold weights in float16.
    return not all(
        np.allclose(a, b, rtol=1e-2, atol=1e-3)
        for a, b in zip(*pairs, strict=True)
    )


def count_halvings(student):
    """Number of phases of progressive distillation.

    Args:
        student: `StudentSettings`.
    """
    return max(1, math.ceil(math.log2(_FIRST_STEPS / student.num_steps)))


def build_distillation(teacher, images, settings):
    """Build the distillation of a run.

    Args:
        teacher: a `DiffusionModel` or `TextToImage`. Its weights do not
            matter if those of a checkpoint take their place.
        images: `RunImages`.
        settings: `RunSettings` with `student`.

    Returns:
        A `Distillation`, not yet compiled.
    """
    student = settings.student
    if hasattr(teacher, "text_encoder"):
        setup.prepare_encoder(teacher.text_encoder, images, settings)
    options = {}
    if student.method == "consistency":
        # A student that has begun goes on where the teacher's steps ended.
        has_begun = settings.initialize_from is not None
        first = _LAST_STEPS if has_begun else _FIRST_STEPS
        options = {
            "teacher_steps": (
                max(first, student.num_steps),
                max(_LAST_STEPS, student.num_steps),
            ),
            "annealing_updates": student.updates,
        }
    if student.method == "progressive":
        halvings = count_halvings(student)
        options = {
            "num_halvings": halvings,
            "updates_per_halving": max(1, student.updates // halvings),
        }
    return METHODS[student.method](
        teacher,
        student.num_steps,
        guidance_scale=student.guidance_scale,
        compile=False,
        **options,
    )


# === Images ===


@dataclasses.dataclass(frozen=True)
class Kind:
    """The kind of images that a teacher draws.

    Args:
        teacher: string. Name of the teacher for errors.
        num_classes: int, or `None` without classes.
        class_names: list of strings, or `None` without names.
        takes_text: bool.
    """

    teacher: str
    num_classes: int | None
    class_names: list | None
    takes_text: bool

    @classmethod
    def of(cls, model, name):
        """Describe what a `DiffusionModel` or `TextToImage` draws."""
        network = model.backbone
        return cls(
            name,
            network.num_classes,
            getattr(model, "class_names", None),
            network.context_dim is not None,
        )

    def match(self, class_names, has_captions):
        """Check that images are of this kind, and match their classes.

        Args:
            class_names: list of strings, or `None` for images without classes.
            has_captions: bool.

        Returns:
            A list of the teacher's numbers of the classes, `None` for a
            teacher without classes.

        Raises:
            InputError: if the teacher draws texts and the images have no
                captions, or if it has classes and the images have none or
                others.
        """
        if self.takes_text:
            captions.check_captions(has_captions)
        if self.num_classes is None:
            return None
        if class_names is None:
            raise InputError(
                f"The teacher '{self.teacher}' draws {self.num_classes} "
                "classes, and the images have none. Put those of each class "
                "into a folder of its name."
            )
        if self.class_names is None:
            if len(class_names) == self.num_classes:
                return list(range(self.num_classes))
            raise InputError(
                f"The teacher '{self.teacher}' draws {self.num_classes} "
                f"classes without names, and the images have "
                f"{len(class_names)}. Use images of the same classes."
            )
        found = match_names(self.class_names, class_names)
        if len(found) < len(class_names):
            unknown = [n for i, n in enumerate(class_names) if i not in found]
            raise InputError(
                f"The teacher '{self.teacher}' does not draw the classes "
                f"{some_of(unknown)} of the images. It draws "
                f"{some_of(self.class_names)}: rename the folders, or leave "
                "out the others."
            )
        return [found[number] for number in range(len(class_names))]

    def adapt(self, source):
        """Number the classes of an `ImageSource` as the teacher does."""
        numbers = self.match(source.class_names, source.has_captions)
        if numbers is None and source.class_names is None:
            return source
        if numbers is None:
            return RelabelledSource(source, None)
        if numbers == list(range(self.num_classes)):
            return source
        return RelabelledSource(source, self.class_names, numbers)


def open_images(model, preset, settings):
    """Open the images of a distillation, with the classes of its teacher.

    Args:
        model: a `DiffusionModel` or `TextToImage`, the teacher or the student.
        preset: the `Preset` that it is from.
        settings: `RunSettings`.

    Returns:
        `RunImages`.
    """
    kind = Kind.of(model, preset.name)
    return setup.RunImages(preset, settings, kind.adapt)
