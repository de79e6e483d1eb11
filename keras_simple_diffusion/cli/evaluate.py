import pathlib
from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.terminal import say


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            help="A run, a preset with weights, or a folder or zip of images."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Real images: vehicles, digits, a folder or zip, tfds:NAME."
        ),
    ],
    metrics: Annotated[
        str | None,
        typer.Option(
            help="fid, fid_infinity, kid, precision_recall, density_coverage, "
            "inception_score, fd_efficientnet, fd_dinov2, clip_score, "
            "class_accuracy, nearest, conditioning and bits_per_dimension, "
            "separated by commas. (default: fid,kid,precision_recall,nearest, "
            "conditioning, and that of each network that is given)"
        ),
    ] = None,
    protocol: Annotated[
        Literal["simple_diffusion"] | None,
        typer.Option(
            help="Measure as the paper does: 50,000 images, DDPM, 512 steps, "
            "no guidance, FID and Inception Score. Explicit options override "
            "it."
        ),
    ] = None,
    num_images: Annotated[
        int | None,
        typer.Option(
            min=4,
            max=shared.MAX_IMAGES,
            help="Number of images. (default: 10000, on a CPU what it draws in "
            "15 minutes; or all stored ones)",
        ),
    ] = None,
    feature_weights: Annotated[
        str | None,
        typer.Option(help="Weights of Inception. (default: downloads them)"),
    ] = None,
    resize: Annotated[
        Literal["original", "pytorch"] | None,
        typer.Option(
            help="Resizing to Inception's 299 pixels. (default: original)"
        ),
    ] = None,
    efficientnet: Annotated[
        str | None,
        typer.Option(
            help="Weights of EfficientNet-Lite0, a .npz file, for "
            "fd_efficientnet; nearest and conditioning then use its features."
        ),
    ] = None,
    dinov2: Annotated[
        str | None,
        typer.Option(help="Preset of DINOv2. (default: dinov2_large)"),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(help="Preset of CLIP. (default: clip_vit_base_patch32)"),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            help="A .keras classifier of images in [0, 255], for "
            "class_accuracy."
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(help="Sampling steps, or a list. (default: the model's)"),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(help="Guidance scale, or a list. (default: the model's)"),
    ] = None,
    guidance_interval: shared.GuidanceInterval = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images drawn at once.")
    ] = 64,
    resamples: Annotated[
        int,
        typer.Option(
            min=0, max=10_000, help="Bootstrap resamples for FID's interval."
        ),
    ] = 20,
    distribution: shared.Distribution = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue an interrupted evaluation."),
    ] = False,
    output: Annotated[
        str, typer.Option(help="The report, a .json file.")
    ] = "report.json",
):
    """Measure generated images against real ones: FID, KID and others."""
    check_backend()
    given = {
        "metrics": metrics and [name.strip() for name in metrics.split(",")],
        "num_images": num_images,
        "resize": resize,
        "sampler": sampler,
        "num_steps": _read_list(steps, int, "--steps"),
        "guidance_scale": _read_list(guidance, float, "--guidance"),
        "guidance_interval": shared.read_interval(guidance_interval),
    }
    given = {name: value for name, value in given.items() if value is not None}
    from keras_simple_diffusion import evaluation
    from keras_simple_diffusion.distribution import is_main_process

    with shared.distributed(distribution):
        report = evaluation.evaluate(
            model,
            data,
            feature_weights=feature_weights,
            efficientnet=efficientnet,
            dinov2=dinov2,
            clip=clip,
            classifier=classifier,
            num_resamples=resamples,
            seed=seed,
            batch_size=batch_size,
            output=output,
            resume=resume,
            **{**evaluation.PROTOCOLS.get(protocol, {}), **given},
        )
    if is_main_process():
        path = pathlib.Path(output)
        print(report)
        sheets = [
            str(path.with_name(result.content["nearest"]["sheet"]))
            for result in report.results
            if "nearest" in result.content
        ]
        if sheets:
            say(f"\nNearest training images: {', '.join(sheets)}.")
        say(
            f"\nThe report is {path}, a card of it {path.with_suffix('.md')}; "
            f"the features are kept in {path.with_suffix('.features')}."
        )


def _read_list(text, kind, option):
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"`{option}` must be a number, or several separated by commas. "
            f"Received: {text}"
        ) from None
