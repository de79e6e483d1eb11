"""Options of the commands that train, and the course of a run on a terminal."""

import functools
import pathlib
from typing import Literal

import typer

from keras_simple_diffusion.cli.shared import option
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.terminal import say

# Options in the groups of the help.
data_option = functools.partial(option, rich_help_panel="Data")
network_option = functools.partial(option, rich_help_panel="Network")
recipe_option = functools.partial(option, rich_help_panel="Recipe")
result_option = functools.partial(option, rich_help_panel="Results")
machine_option = functools.partial(option, rich_help_panel="Machine")

Data = data_option(
    str,
    help="Train on vehicles, digits, a folder, .zip or .array_record of "
    "images, or tfds:NAME.",
)
Crop = data_option(
    Literal["center", "random"],
    help="Choose the part to keep of an image of another shape. "
    "(default: center)",
)
AspectBuckets = data_option(
    int,
    min=2,
    help="Train on up to this many shapes, from 1:2 to 2:1, of the area of "
    "--image-size, each image cut to the nearest. (default: all to one)",
)
Embeddings = data_option(
    str,
    help="Read the captions' embeddings from this folder, written by "
    "`embed`. (default: run the text encoder)",
)
Workers = data_option(
    int,
    min=0,
    help="Read images in this many processes. (default: in threads)",
)
Dtype = network_option(
    Literal["float32", "mixed_bfloat16", "mixed_float16"],
    help="Compute the network in this precision. (default: the preset's, "
    "mostly float32)",
)
BatchSize = recipe_option(int, help="Train on this many images per step.")
Accumulate = recipe_option(
    int,
    help="Split each batch into this many parts and accumulate their "
    "gradients.",
)
LearningRate = recipe_option(
    float,
    help="Set the learning rate after warm-up.",
)
WarmupSteps = recipe_option(
    int, min=0, help="Raise the learning rate in this many first steps."
)
CooldownSteps = recipe_option(
    int,
    min=0,
    help="Lower the learning rate to zero in this many last steps.",
)
EmaDecay = recipe_option(
    float, help="Average the weights with this decay per step."
)
Flip = recipe_option(
    bool,
    "--flip/--no-flip",
    help="Mirror half of the images; not for letters.",
)
Seed = recipe_option(
    int, min=0, max=2**32 - 1, help="Seed the whole run. (default: 0)"
)
Output = result_option(
    str, help="Write the run to this new folder. (default: runs/NAME)"
)
CheckpointEvery = result_option(
    int,
    min=1,
    help="Save a checkpoint after this many steps. (default: after 2 "
    "minutes, then every 10)",
)
Keep = result_option(
    int, min=2, help="Keep this many checkpoints. (default: 3)"
)
SamplesEvery = result_option(
    int,
    min=1,
    help="Draw a sheet of samples after this many steps. (default: after "
    "10, 25 and 50 % of them, and at the end)",
)
QuickFid = result_option(
    int,
    min=2,
    help="Log a Fréchet distance of this many images: once, then in at "
    "most a twentieth of the time. (default: none)",
)
FeatureWeights = result_option(
    str,
    help="Read Inception's weights for --quick-fid from this file. "
    "(default: download them)",
)
Log = result_option(
    list[str],
    help="Log to tensorboard or wandb as well; can be repeated. "
    "(default: history.csv only)",
)
Distribution = machine_option(
    str,
    help="Use all devices: data, sharded or tensor:N. (default: one device)",
)
Coordinator = machine_option(
    str,
    help="Connect to process 0 of several at HOST:PORT. (default: found "
    "on TPU pods, under SLURM and torchrun)",
)
NumProcesses = machine_option(int, min=1, help="Set the number of processes.")
ProcessId = machine_option(int, min=0, help="Set the number of this process.")

# Options of this process, not of the run.
OF_THE_PROCESS = ("resume", "coordinator", "num_processes", "process_id")


def check_resumed(settings):
    """Raise an `InputError` if a resumed run was given what it cannot change.

    Args:
        settings: dict of the settings that are given.
    """
    for name, value in settings.items():
        if name not in ("steps", "minutes", "data"):
            raise InputError(
                "A resumed run keeps its settings; only `steps`, `minutes` "
                "and, for images that were moved, `data` can be used with "
                f"--resume. Received: {name}={value}"
            )


def carry_out(command, settings, name, resume, processes):
    """Start or resume a run, and say how it ended.

    Args:
        command: string, `"train"` or `"distill"`.
        settings: dict of arguments of `train_run`, `distill_run` or
            `resume_run`.
        name: string. What a new run is named after if `settings` has no
            `output`.
        resume: path of the run to resume, or `None`.
        processes: tuple of the options of several processes.
    """
    from keras_simple_diffusion import training
    from keras_simple_diffusion.distribution import processes as several
    from keras_simple_diffusion.training.planning import output_for

    distribution = settings.get("distribution")
    if resume is not None:
        distribution = training.RunSettings.read(resume).distribution
    if distribution is not None or processes[0] is not None:
        several.initialize(*processes)
    is_main = several.is_main_process()
    output = resume or settings.get("output") or output_for(name)
    try:
        if resume is not None:
            training.resume_run(resume, **settings)
        else:
            start = getattr(training, f"{command}_run")
            start(**{**settings, "output": output})
    except training.Interrupted as interrupted:
        if is_main:
            say(f"Interrupted; the run is saved at step {interrupted.step}.")
            _say_steps_of_student(output)
            _say_how_to_continue(command, output)
            _say_how_to_draw(output)
        raise typer.Exit(128 + interrupted.signal) from None
    except KeyboardInterrupt:
        if is_main and (pathlib.Path(output) / "config.json").exists():
            say("Left at once; the run goes on from its last checkpoint.")
            _say_how_to_continue(command, output)
        raise
    if is_main:
        say(f"The run is in {output}: open index.html there.")
        if _say_steps_of_student(output):
            _say_how_to_continue(command, output)
        _say_how_to_draw(output)


def _say_steps_of_student(output):
    """Say in how many steps the student of a run draws, if it has one.

    Returns:
        bool. `True` if these are more steps than were asked for, because the
        run ended in an early phase of progressive distillation.
    """
    from keras_simple_diffusion import models
    from keras_simple_diffusion import training

    student = training.RunSettings.read(output).student
    if student is None:
        return False
    steps = models.Preset.open(output).task_config["distilled_steps"]
    is_early = steps > student.num_steps
    count = "1 step" if steps == 1 else f"{steps} steps"
    say(
        f"The student draws in {count} so far. In {student.num_steps} it "
        "draws after the last phase: continue with more --updates or --minutes."
        if is_early
        else f"The student draws in {count}."
    )
    return is_early


def _say_how_to_continue(command, output):
    say(f"Continue: keras-simple-diffusion {command} --resume {output}")


def _say_how_to_draw(output):
    from keras_simple_diffusion import models

    task = models.Preset.open(output).task_class
    prompt = " --prompt TEXT" if task is models.TextToImage else ""
    say(f"Images: keras-simple-diffusion generate --model {output}{prompt}")
