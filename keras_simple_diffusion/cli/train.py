"""The command `train`."""

import functools
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli.shared import option
from keras_simple_diffusion.utils.errors import InputError

# Options of this process, not of the run.
_OF_THE_PROCESS = ("resume", "coordinator", "num_processes", "process_id")
# Options that a resumed run may change.
_OF_ANY_RUN = ("steps", "minutes")

# Options in the groups of the help.
_data_option = functools.partial(option, rich_help_panel="Data")
_network_option = functools.partial(option, rich_help_panel="Network")
_recipe_option = functools.partial(option, rich_help_panel="Recipe")
_result_option = functools.partial(option, rich_help_panel="Results")
_machine_option = functools.partial(option, rich_help_panel="Machine")


def train(
    data: _data_option(
        str, help="Train on digits, a folder or .zip of images, or tfds:NAME."
    ) = None,
    image_size: _data_option(
        int,
        min=1,
        help="Resize images to this height and width in pixels. "
        "(default: the preset's)",
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
        help="Use network and recipe of this preset, run or hf:// handle, see "
        "`presets`; for its weights see --initialize-from. "
        "(default: uvit_small_64)",
    ) = None,
    initialize_from: _network_option(
        str,
        help="Start from the weights of this run or preset, of the same "
        "network at any image size. (default: random weights)",
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
        "(default: the preset's)",
    ) = None,
    minutes: _recipe_option(
        float,
        min=0,
        help="Stop after this training time of the whole run. (default: never)",
    ) = None,
    batch_size: _recipe_option(
        int, help="Train on this many images per step. (default: the preset's)"
    ) = None,
    accumulate: _recipe_option(
        int,
        help="Split each batch into this many parts and accumulate their "
        "gradients. (default: the preset's, mostly 1)",
    ) = None,
    optimizer: _recipe_option(
        Literal["adam", "adamw", "muon"],
        help="Choose the optimizer. (default: the preset's)",
    ) = None,
    learning_rate: _recipe_option(
        float,
        help="Set the learning rate after warm-up. (default: the preset's)",
    ) = None,
    weight_decay: _recipe_option(
        float, help="Set the decay of adamw and muon. (default: the preset's)"
    ) = None,
    stratified: _recipe_option(
        bool,
        "--stratified/--no-stratified",
        help="Cover the noise levels evenly in each batch. "
        "(default: the preset's)",
    ) = None,
    seed: _recipe_option(
        int, min=0, max=2**32 - 1, help="Seed the whole run. (default: 0)"
    ) = None,
    output: _result_option(
        str, help="Write the run to this new folder."
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
        help="Draw a sheet of samples after this many steps. "
        "(default: at the end)",
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
    """Train a model on images, into a run folder that holds everything."""
    # Names and values of options are those of `train_run`.
    given = {k: v for k, v in locals().items() if v not in (None, [])}
    settings = {k: v for k, v in given.items() if k not in _OF_THE_PROCESS}
    check_backend()
    if rematerialize == ["none"]:
        settings["rematerialize"] = []
    if resume is not None:
        _check_resumed(settings)
    for name in ("data", "output"):
        if resume is None and name not in settings:
            raise InputError(
                f"`train` needs --{name}, or --resume to continue a run."
            )
    from keras_simple_diffusion import distribution as processes
    from keras_simple_diffusion import training

    if resume is not None:
        distribution = training.RunSettings.read(resume).distribution
        output = resume
    if distribution is not None or coordinator is not None:
        processes.initialize(coordinator, num_processes, process_id)
    is_main = processes.is_main_process()
    try:
        if resume is not None:
            training.resume_run(resume, **settings)
        else:
            training.train_run(**settings)
    except training.Interrupted as interrupted:
        if is_main:
            print(f"Interrupted; the run is saved at step {interrupted.step}.")
            print(f"Continue: keras-simple-diffusion train --resume {output}")
        raise typer.Exit(128 + interrupted.signal) from None
    if is_main:
        print(f"The run is in {output}: see samples.png and loss.png there.")
        print(f"Images: keras-simple-diffusion generate --model {output}")


def _check_resumed(settings):
    for name in settings:
        if name not in _OF_ANY_RUN:
            raise InputError(
                "A resumed run keeps its settings; only --steps and --minutes "
                "can be used with --resume. Received: "
                f"--{name.replace('_', '-')}"
            )
