"""The command `train`."""

import functools
import pathlib
import tomllib
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli.shared import option
from keras_simple_diffusion.utils.errors import InputError

# Options of this process, not of the run.
_OF_THE_PROCESS = ("resume", "coordinator", "num_processes", "process_id")
# Options that a resumed run may change.
_OF_ANY_RUN = ("steps", "minutes", "data")

# Options in the groups of the help.
_data_option = functools.partial(option, rich_help_panel="Data")
_network_option = functools.partial(option, rich_help_panel="Network")
_recipe_option = functools.partial(option, rich_help_panel="Recipe")
_result_option = functools.partial(option, rich_help_panel="Results")
_machine_option = functools.partial(option, rich_help_panel="Machine")


def train(
    data: _data_option(
        str,
        help="Train on vehicles, digits, a folder, a .zip or tfds:NAME.",
    ) = None,
    image_size: _data_option(
        int,
        min=1,
        help="Resize images to this height and width in pixels.",
    ) = None,
    crop: _data_option(
        Literal["center", "random"],
        help="Choose the part to keep of an image of another shape. "
        "(default: center)",
    ) = None,
    embeddings: _data_option(
        str,
        help="Read the captions' embeddings from this folder, written by "
        "`embed`. (default: run the text encoder)",
    ) = None,
    workers: _data_option(
        int,
        min=0,
        help="Read images in this many processes. (default: in threads)",
    ) = None,
    preset: _network_option(
        str,
        help="Use network and recipe of this preset, run or hf:// handle, and "
        "start from its weights if it has any, see `presets`. "
        "(default: what suits the images)",
    ) = None,
    initialize_from: _network_option(
        str,
        help="Start from the weights of this run or preset, of the same "
        "network at any image size. (default: the preset's)",
    ) = None,
    from_scratch: _network_option(
        bool,
        "--from-scratch",
        help="Start from random weights, not from the preset's.",
    ) = None,
    dtype: _network_option(
        Literal["float32", "mixed_bfloat16", "mixed_float16"],
        help="Compute the network in this precision. (default: the preset's, "
        "mostly float32)",
    ) = None,
    rematerialize: _network_option(
        list[str],
        help="Recompute blocks for the gradient to save memory: residual, "
        "transformer, attention or none; can be repeated. "
        "(default: the preset's, mostly none)",
    ) = None,
    steps: _recipe_option(
        int,
        help="Take this many training steps, each an update of the weights. "
        "(default: as many as the minutes allow)",
    ) = None,
    minutes: _recipe_option(
        float,
        min=0,
        help="Stop after this training time of the whole run. (default: 15 "
        "without --preset and --steps, else never)",
    ) = None,
    batch_size: _recipe_option(
        int, help="Train on this many images per step."
    ) = None,
    accumulate: _recipe_option(
        int,
        help="Split each batch into this many parts and accumulate their "
        "gradients.",
    ) = None,
    optimizer: _recipe_option(
        Literal["adam", "adamw", "muon"],
        help="Choose the optimizer.",
    ) = None,
    learning_rate: _recipe_option(
        float,
        help="Set the learning rate after warm-up.",
    ) = None,
    warmup_steps: _recipe_option(
        int, min=0, help="Raise the learning rate in this many first steps."
    ) = None,
    cooldown_steps: _recipe_option(
        int,
        min=0,
        help="Lower the learning rate to zero in this many last steps.",
    ) = None,
    ema_decay: _recipe_option(
        float, help="Average the weights with this decay per step."
    ) = None,
    flip: _recipe_option(
        bool,
        "--flip/--no-flip",
        help="Mirror half of the images; not for letters.",
    ) = None,
    weight_decay: _recipe_option(
        float, help="Set the decay of adamw and muon."
    ) = None,
    beta_1: _recipe_option(
        float, "--beta-1", help="Set the decay of Adam's first moment."
    ) = None,
    beta_2: _recipe_option(
        float, "--beta-2", help="Set the decay of Adam's second moment."
    ) = None,
    epsilon: _recipe_option(float, help="Set Adam's epsilon.") = None,
    clip_norm: _recipe_option(
        float, help="Clip the gradient to this norm."
    ) = None,
    stratified: _recipe_option(
        bool,
        "--stratified/--no-stratified",
        help="Cover the noise levels evenly in each batch.",
    ) = None,
    seed: _recipe_option(
        int, min=0, max=2**32 - 1, help="Seed the whole run. (default: 0)"
    ) = None,
    config: _recipe_option(
        str,
        help="Read options from this TOML file, such as batch_size = 16; those "
        "of the command line come first.",
    ) = None,
    output: _result_option(
        str, help="Write the run to this new folder. (default: runs/NAME)"
    ) = None,
    resume: _result_option(
        str,
        help="Continue this run. All settings come from it; only --steps and "
        "--minutes can be changed.",
    ) = None,
    checkpoint_every: _result_option(
        int,
        min=1,
        help="Save a checkpoint after this many steps. (default: after 2 "
        "minutes, then every 10)",
    ) = None,
    keep: _result_option(
        int, min=2, help="Keep this many checkpoints. (default: 3)"
    ) = None,
    samples_every: _result_option(
        int,
        min=1,
        help="Draw a sheet of samples after this many steps. (default: after "
        "10, 25 and 50 % of them, and at the end)",
    ) = None,
    quick_fid: _result_option(
        int,
        min=2,
        help="Log a Fréchet distance of this many images: once, then in at "
        "most a twentieth of the time. (default: none)",
    ) = None,
    feature_weights: _result_option(
        str,
        help="Read Inception's weights for --quick-fid from this file. "
        "(default: download them)",
    ) = None,
    snapshots: _result_option(
        int,
        min=2,
        help="Keep averages of the weights for `average` at this many times. "
        "(default: none)",
    ) = None,
    log: _result_option(
        list[str],
        help="Log to tensorboard or wandb as well; can be repeated. "
        "(default: history.csv only)",
    ) = None,
    distribution: _machine_option(
        str,
        help="Use all devices: data, sharded or tensor:N. "
        "(default: one device)",
    ) = None,
    coordinator: _machine_option(
        str,
        help="Connect to process 0 of several at HOST:PORT. (default: found "
        "on TPU pods and under SLURM)",
    ) = None,
    num_processes: _machine_option(
        int, min=1, help="Set the number of processes."
    ) = None,
    process_id: _machine_option(
        int, min=0, help="Set the number of this process."
    ) = None,
):
    """Train a model on images, into a run folder that holds everything.

    Only --data is needed. What is not given follows from the images and the
    speed of this machine, and is printed first; with --preset it is the
    preset's, with --preset and --minutes its network and what fits the time.
    """
    # Names and values of options are those of `train_run`.
    given = {k: v for k, v in locals().items() if v not in (None, [])}
    settings = {k: v for k, v in given.items() if k not in _OF_THE_PROCESS}
    check_backend()
    if rematerialize == ["none"]:
        settings["rematerialize"] = []
    if resume is not None:
        _check_resumed(settings)
    elif config is not None:
        settings = {**_read_config(config), **settings}
        del settings["config"]
    if resume is None and "data" not in settings:
        raise InputError("`train` needs --data, or --resume to continue a run.")
    from keras_simple_diffusion import distribution as processes
    from keras_simple_diffusion import training
    from keras_simple_diffusion.training.planning import output_for

    if resume is not None:
        distribution = training.RunSettings.read(resume).distribution
        output = resume
    distribution = settings.get("distribution", distribution)
    if distribution is not None or coordinator is not None:
        processes.initialize(coordinator, num_processes, process_id)
    is_main = processes.is_main_process()
    if output is None:
        output = settings.get("output") or output_for(settings["data"])
        settings["output"] = output
    try:
        if resume is not None:
            training.resume_run(resume, **settings)
        else:
            training.train_run(**settings)
    except training.Interrupted as interrupted:
        if is_main:
            print(f"Interrupted; the run is saved at step {interrupted.step}.")
            print(f"Continue: keras-simple-diffusion train --resume {output}")
            print(f"Images: keras-simple-diffusion generate --model {output}")
        raise typer.Exit(128 + interrupted.signal) from None
    except KeyboardInterrupt:
        if is_main and (pathlib.Path(output) / "config.json").exists():
            print("Left at once; the run goes on from its last checkpoint.")
            print(f"Continue: keras-simple-diffusion train --resume {output}")
        raise
    if is_main:
        print(f"The run is in {output}: open index.html there.")
        print(f"Images: keras-simple-diffusion generate --model {output}")


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
    known = {
        *settings.field_names(settings.Recipe),
        *settings.field_names(settings.RunSettings),
        *("output", "from_scratch"),
    }
    known -= {"recipe", "plan", "facts"}
    settings.check_names(options, sorted(known), f"'{path}'")
    for name, kind in (("output", str), ("data", str), ("from_scratch", bool)):
        if not isinstance(options.get(name, kind()), kind):
            raise InputError(
                f"'{path}' must give `{name}` as a {kind.__name__}. Received: "
                f"{options[name]!r}"
            )
    return options


def _check_resumed(settings):
    for name in settings:
        if name not in _OF_ANY_RUN:
            raise InputError(
                "A resumed run keeps its settings; only --steps, --minutes and "
                "--data, for images that were moved, can be used with "
                "--resume. Received: "
                f"--{name.replace('_', '-')}"
            )
