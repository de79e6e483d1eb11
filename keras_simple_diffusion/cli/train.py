"""The command `train`."""

import tomllib
from typing import Literal

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.backend.choice import check_training
from keras_simple_diffusion.cli import run_options as options
from keras_simple_diffusion.cli.run_options import OF_THE_PROCESS
from keras_simple_diffusion.cli.run_options import carry_out
from keras_simple_diffusion.cli.run_options import check_resumed
from keras_simple_diffusion.utils.errors import InputError


def train(
    data: options.Data = None,
    image_size: options.data_option(
        int,
        min=1,
        help="Resize images to this height and width in pixels.",
    ) = None,
    crop: options.Crop = None,
    aspect_buckets: options.AspectBuckets = None,
    embeddings: options.Embeddings = None,
    workers: options.Workers = None,
    preset: options.network_option(
        str,
        help="Use network and recipe of this preset, run or hf:// handle, and "
        "start from its weights if it has any, see `presets`. "
        "(default: what suits the images)",
    ) = None,
    initialize_from: options.network_option(
        str,
        help="Start from the weights of this run or preset, of the same "
        "network at any image size. (default: the preset's)",
    ) = None,
    from_scratch: options.network_option(
        bool,
        "--from-scratch",
        help="Start from random weights, not from the preset's.",
    ) = None,
    dtype: options.Dtype = None,
    rematerialize: options.network_option(
        list[str],
        help="Recompute blocks for the gradient to save memory: residual, "
        "transformer, attention or none; can be repeated. "
        "(default: the preset's, mostly none)",
    ) = None,
    steps: options.recipe_option(
        int,
        help="Take this many training steps, each an update of the weights. "
        "(default: as many as the minutes allow)",
    ) = None,
    minutes: options.recipe_option(
        float,
        min=0,
        help="Stop after this training time of the whole run. (default: 15 "
        "without --preset and --steps, else never)",
    ) = None,
    batch_size: options.BatchSize = None,
    accumulate: options.Accumulate = None,
    optimizer: options.recipe_option(
        Literal["adam", "adamw", "muon"],
        help="Choose the optimizer.",
    ) = None,
    learning_rate: options.LearningRate = None,
    warmup_steps: options.WarmupSteps = None,
    cooldown_steps: options.CooldownSteps = None,
    ema_decay: options.EmaDecay = None,
    flip: options.Flip = None,
    weight_decay: options.recipe_option(
        float, help="Set the decay of adamw and muon."
    ) = None,
    beta_1: options.recipe_option(
        float, "--beta-1", help="Set the decay of Adam's first moment."
    ) = None,
    beta_2: options.recipe_option(
        float, "--beta-2", help="Set the decay of Adam's second moment."
    ) = None,
    epsilon: options.recipe_option(float, help="Set Adam's epsilon.") = None,
    clip_norm: options.recipe_option(
        float, help="Clip the gradient to this norm."
    ) = None,
    schedule: options.recipe_option(
        str,
        help="Use this noise schedule: cosine, shifted_cosine, "
        "interpolated_cosine, normal or flow, with arguments as in "
        "normal:mean=-1.6,std=1.6. (default: the preset's)",
    ) = None,
    stratified: options.recipe_option(
        bool,
        "--stratified/--no-stratified",
        help="Cover the noise levels evenly in each batch.",
    ) = None,
    seed: options.Seed = None,
    config: options.recipe_option(
        str,
        help="Read options from this TOML file, such as batch_size = 16; those "
        "of the command line come first.",
    ) = None,
    output: options.Output = None,
    resume: options.result_option(
        str,
        help="Continue this run. All settings come from it; only --steps and "
        "--minutes can be changed.",
    ) = None,
    checkpoint_every: options.CheckpointEvery = None,
    keep: options.Keep = None,
    samples_every: options.SamplesEvery = None,
    quick_fid: options.QuickFid = None,
    feature_weights: options.FeatureWeights = None,
    snapshots: options.result_option(
        int,
        min=2,
        help="Keep averages of the weights for `average` at this many times. "
        "(default: none)",
    ) = None,
    log: options.Log = None,
    distribution: options.Distribution = None,
    coordinator: options.Coordinator = None,
    num_processes: options.NumProcesses = None,
    process_id: options.ProcessId = None,
):
    """Train a model on images, into a run folder that holds everything.

    Only --data is needed. What is not given follows from the images and the
    speed of this machine, and is printed first; with --preset it is the
    preset's, with --preset and --minutes its network and what fits the time.
    """
    # Names and values of options are those of `train_run`.
    given = {k: v for k, v in locals().items() if v not in (None, [])}
    settings = {k: v for k, v in given.items() if k not in OF_THE_PROCESS}
    check_backend()
    check_training()
    if resume is not None:
        check_resumed(settings)
    elif config is not None:
        settings = {**_read_config(config), **settings}
        del settings["config"]
    if settings.get("rematerialize") == ["none"]:
        settings["rematerialize"] = []
    if resume is None and "data" not in settings:
        raise InputError("`train` needs --data, or --resume to continue a run.")
    processes = coordinator, num_processes, process_id
    carry_out("train", settings, settings.get("data"), resume, processes)


def _read_config(path):
    """Read the options of a TOML file, under their names in Python."""
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"'{path}' cannot be read: {reason}") from error
    from keras_simple_diffusion.training import settings

    options = {name.replace("-", "_"): v for name, v in content.items()}
    known = [*settings.names_of_options(), "output", "from_scratch"]
    settings.check_names(options, sorted(known), f"'{path}'")
    for name, kind in (("output", str), ("data", str), ("from_scratch", bool)):
        if not isinstance(options.get(name, kind()), kind):
            raise InputError(
                f"'{path}' must give `{name}` as a {kind.__name__}. Received: "
                f"{options[name]!r}"
            )
    return options
