"""The command `distill`."""

import pathlib
from typing import Literal

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.backend.choice import check_training
from keras_simple_diffusion.cli import run_options as options
from keras_simple_diffusion.cli.run_options import OF_THE_PROCESS
from keras_simple_diffusion.cli.run_options import carry_out
from keras_simple_diffusion.cli.run_options import check_resumed
from keras_simple_diffusion.utils.errors import InputError


def distill(
    teacher: options.network_option(
        str,
        help="Distill the model of this run or preset, from its averaged "
        "weights.",
    ) = None,
    data: options.Data = None,
    num_steps: options.network_option(
        int,
        "--steps",
        min=1,
        max=1024,
        help="Make a student that draws in this many steps. (default: 4)",
    ) = None,
    method: options.network_option(
        Literal["consistency", "progressive", "moments"],
        help="Distill by multistep consistency, by halving the steps again and "
        "again, or by matching moments. (default: consistency)",
    ) = None,
    guidance_scale: options.network_option(
        str,
        "--guidance",
        help="Let the student learn the images of this guidance, which it "
        "draws without; LOW,HIGH leaves the choice in this range to its "
        "--guidance. (default: the teacher's)",
    ) = None,
    initialize_from: options.network_option(
        str,
        help="Start from this run or preset, an earlier student of the same "
        "teacher and as many steps, by any method. (default: the teacher)",
    ) = None,
    dtype: options.Dtype = None,
    crop: options.Crop = None,
    embeddings: options.Embeddings = None,
    workers: options.Workers = None,
    steps: options.recipe_option(
        int,
        "--updates",
        help="Take this many training steps, each an update of the weights. "
        "(default: as many as the minutes allow)",
    ) = None,
    minutes: options.recipe_option(
        float,
        min=0,
        help="Stop after this training time of the whole run. (default: 15 "
        "without --updates, else never)",
    ) = None,
    batch_size: options.BatchSize = None,
    accumulate: options.Accumulate = None,
    learning_rate: options.LearningRate = None,
    warmup_steps: options.WarmupSteps = None,
    cooldown_steps: options.CooldownSteps = None,
    ema_decay: options.EmaDecay = None,
    flip: options.Flip = None,
    seed: options.Seed = None,
    output: options.Output = None,
    resume: options.result_option(
        str,
        help="Continue this run. All settings come from it; only --updates and "
        "--minutes can be changed.",
    ) = None,
    checkpoint_every: options.CheckpointEvery = None,
    keep: options.Keep = None,
    samples_every: options.SamplesEvery = None,
    quick_fid: options.QuickFid = None,
    feature_weights: options.FeatureWeights = None,
    log: options.Log = None,
    distribution: options.Distribution = None,
    coordinator: options.Coordinator = None,
    num_processes: options.NumProcesses = None,
    process_id: options.ProcessId = None,
):
    """Distill a model into a student that draws in a few steps.

    Needs --teacher and --data, images of the kind that the teacher was trained
    on. The student draws with its own number of steps and without guidance;
    the run is like that of `train`.
    """
    # Names and values of options are those of `distill_run`.
    given = {k: v for k, v in locals().items() if v not in (None, [])}
    settings = {k: v for k, v in given.items() if k not in OF_THE_PROCESS}
    if guidance_scale is not None:
        settings["guidance_scale"] = _read_guidance(guidance_scale)
    check_backend()
    check_training()
    if resume is not None:
        check_resumed(settings)
    elif teacher is None or data is None:
        raise InputError(
            "`distill` needs --teacher and --data, or --resume to continue a "
            "run."
        )
    processes = coordinator, num_processes, process_id
    name = pathlib.Path(teacher or "").resolve().name
    name = f"{name}-{num_steps or 4}-steps"
    carry_out("distill", settings, name, resume, processes)


def _read_guidance(text):
    """Read a guidance scale, or the two ends of a range."""
    try:
        low, *high = map(float, text.split(","))
    except ValueError:
        raise InputError(
            "`--guidance` must be a number, or two such as 1,4 for a range. "
            f"Received: {text}"
        ) from None
    return [low, *high] if high else low
