from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.utils.errors import InputError


def train(
    data: Annotated[
        str | None,
        typer.Option(help="digits, a folder or .zip of images, tfds:NAME."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="New folder of the run.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="Run to go on with. Everything comes from it; only --steps "
            "and --minutes can be given anew."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Network and recipe, see `presets`. (default: uvit_small_64)"
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Height and width in pixels. (default: the preset's)"
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            help="center or random: part to keep of an image of another shape. "
            "(default: center)"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps. (default: the preset's)")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop training after this time.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images a step. (default: the preset's)"),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(help="Parts a batch is computed in. (default: 1)"),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="adam, adamw or muon. (default: the preset's)"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="After warm-up. (default: the preset's)"),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of adamw and muon. (default: 0)")
    ] = None,
    stratified: Annotated[
        bool | None,
        typer.Option(
            "--stratified", help="Cover the noise levels evenly in each batch."
        ),
    ] = None,
    initialize_from: Annotated[
        str | None,
        typer.Option(
            help="Run or preset whose weights to start from, of the same "
            "network at another image size."
        ),
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            help="Folder of `embed`, to train from instead of running the "
            "text encoder."
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Steps between checkpoints. (default: at the end)"
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(min=2, help="Checkpoints to keep. (default: 3)"),
    ] = None,
    samples_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Steps between sheets of samples. (default: at the end)"
        ),
    ] = None,
    quick_fid: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Images of a Fréchet distance to follow: once, then in at "
            "most a twentieth of the time. (default: none)",
        ),
    ] = None,
    feature_weights: Annotated[
        str | None,
        typer.Option(
            help="Weights of Inception for it. (default: downloads them)"
        ),
    ] = None,
    snapshots: Annotated[
        int | None,
        typer.Option(
            min=2, help="Times to keep averages for `average`. (default: none)"
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Precision of the network: float32, mixed_bfloat16 or "
            "mixed_float16. (default: float32)"
        ),
    ] = None,
    rematerialize: Annotated[
        list[str] | None,
        typer.Option(
            help="Type of blocks to compute again for the gradient, to save "
            "memory: residual, transformer or attention; can be repeated."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that read images. (default: threads only)"
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="tensorboard or wandb; can be repeated."),
    ] = None,
    distribution: Annotated[
        str | None,
        typer.Option(
            help="data, sharded or tensor:N, to use all devices. "
            "(default: one device)"
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of process 0 of several. (default: detected on "
            "TPU pods and under SLURM)"
        ),
    ] = None,
    num_processes: Annotated[
        int | None, typer.Option(min=1, help="Number of processes.")
    ] = None,
    process_id: Annotated[
        int | None, typer.Option(min=0, help="Number of this process.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**32 - 1, help="Seed of the whole run. (default: 0)"
        ),
    ] = None,
):
    """Train a model on images; the folder of the run holds everything."""
    check_backend()
    given = {
        "data": data,
        "output": output,
        "preset": preset,
        "image_size": image_size,
        "crop": crop,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "stratified": stratified,
        "initialize_from": initialize_from,
        "embeddings": embeddings,
        "checkpoint_every": checkpoint_every,
        "keep": keep,
        "samples_every": samples_every,
        "snapshots": snapshots,
        "quick_fid": quick_fid,
        "feature_weights": feature_weights,
        "dtype": dtype,
        "rematerialize": rematerialize or None,
        "workers": workers,
        "log": log or None,
        "distribution": distribution,
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if resume is not None:
        _check_resume(given)
    else:
        _check_new(given)
    from keras_simple_diffusion.distribution import initialize
    from keras_simple_diffusion.distribution import is_main_process
    from keras_simple_diffusion.training import Interrupted
    from keras_simple_diffusion.training import RunSettings
    from keras_simple_diffusion.training import resume_run
    from keras_simple_diffusion.training import train_run

    if resume is not None:
        distribution = RunSettings.read(resume).distribution
    if distribution is not None or coordinator is not None:
        initialize(coordinator, num_processes, process_id)
    try:
        if resume is not None:
            output = resume
            resume_run(resume, steps, minutes)
        else:
            train_run(steps=steps, minutes=minutes, **given)
    except Interrupted as interrupted:
        if is_main_process():
            print(f"Interrupted; the run is saved at step {interrupted.step}.")
            print(f"Go on: keras-simple-diffusion train --resume {output}")
        raise typer.Exit(128 + interrupted.signal) from None
    if is_main_process():
        print(f"The run is in {output}: see samples.png and loss.png there.")
        print(f"Images: keras-simple-diffusion generate --model {output}")


def _check_resume(given):
    if given:
        option = "--" + next(iter(given)).replace("_", "-")
        raise InputError(
            "A resumed run keeps its settings; only --steps and --minutes can "
            f"be given beside --resume. Received: {option}"
        )


def _check_new(given):
    for name in ("data", "output"):
        if name not in given:
            raise InputError(
                f"`train` needs --{name}, or --resume to go on with a run."
            )
