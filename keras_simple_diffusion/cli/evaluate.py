import contextlib
import json
import math
import pathlib
import secrets
from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError

_DEFAULTS = {"metrics": "fid,kid,precision_recall", "resize": "original"}
# What others measured with, to compare with them.
_PROTOCOLS = {
    "simple_diffusion": {
        "metrics": "fid,inception_score",
        "num_images": 50_000,
        "resize": "original",
        "sampler": "ddpm",
        "steps": "512",
        "guidance": "1",
    },
}


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            help="A run, a preset with weights, or a folder or zip of images."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(help="Real images: digits, a folder or zip, tfds:NAME."),
    ],
    metrics: Annotated[
        str | None,
        typer.Option(
            help="fid, fid_infinity, kid, precision_recall, density_coverage, "
            "nearest, inception_score, fd_dinov2, clip_score, class_accuracy "
            "and bits_per_dimension, separated by commas. "
            "(default: fid,kid,precision_recall)"
        ),
    ] = None,
    protocol: Annotated[
        Literal["simple_diffusion"] | None,
        typer.Option(
            help="The paper's: 50,000 images, DDPM, 512 steps, no guidance, "
            "FID and Inception Score. Options given beside it hold."
        ),
    ] = None,
    num_images: Annotated[
        int | None,
        typer.Option(
            min=4, help="Images to draw. (default: 10000, or all given ones)"
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
        typer.Option(help="Guidance, or a list. (default: the model's)"),
    ] = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(help="Log-SNRs LOW,HIGH between which there is guidance."),
    ] = None,
    sampler: shared.SamplerName = None,
    seed: shared.Seed = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images drawn at once.")
    ] = 64,
    resamples: Annotated[
        int,
        typer.Option(min=0, help="Bootstrap resamples for FID's interval."),
    ] = 20,
    distribution: Annotated[
        Literal["data"] | None,
        typer.Option(help="data, to use all devices. (default: one device)"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with this report.")
    ] = False,
    output: Annotated[
        str, typer.Option(help="The report, a .json file.")
    ] = "report.json",
):
    """Measure generated images against real ones: FID, KID and others."""
    check_backend()
    given = {
        "metrics": metrics,
        "num_images": num_images,
        "resize": resize,
        "sampler": sampler,
        "steps": steps,
        "guidance": guidance,
        "guidance_interval": guidance_interval,
    }
    given = {name: value for name, value in given.items() if value is not None}
    chosen = {**_DEFAULTS, **_PROTOCOLS.get(protocol, {}), **given}
    path = pathlib.Path(output)
    if path.suffix != ".json":
        raise InputError(
            f"The report is a .json file. Received: --output {output}"
        )
    settings = {
        "model": model,
        "data": data,
        "protocol": protocol,
        "metrics": _read_metrics(chosen["metrics"]),
        "num_images": chosen.get("num_images"),
        "resize": chosen["resize"],
        "sampler": chosen.get("sampler"),
        "steps": _read_list(chosen.get("steps"), int, "--steps"),
        "guidance": _read_list(chosen.get("guidance"), float, "--guidance"),
        "guidance_interval": chosen.get("guidance_interval"),
        "batch_size": batch_size,
        "resamples": resamples,
        "seed": seed,
    }
    if any(s is not None and s < 1 for s in settings["steps"]):
        raise InputError(f"`--steps` must be at least 1. Received: {steps}")
    if not all(g is None or math.isfinite(g) for g in settings["guidance"]):
        raise InputError(
            f"`--guidance` must be finite numbers. Received: {guidance}"
        )
    files = {
        "inception": feature_weights,
        "dinov2": dinov2,
        "clip": clip,
        "classifier": classifier,
    }
    from keras_simple_diffusion.distribution import distribute
    from keras_simple_diffusion.distribution import is_main_process
    from keras_simple_diffusion.evaluation.report import write_report
    from keras_simple_diffusion.evaluation.scores import load_networks

    with contextlib.ExitStack() as stack:
        if distribution is not None:
            stack.enter_context(distribute(distribution))
        networks = load_networks(settings, files)
        settings["networks"] = {n: networks[n].name for n in networks}
        folder = path.with_suffix(".features")
        settings = _settle(folder, settings, resume)
        write_report(path, folder, settings, networks)
    if is_main_process():
        print(
            f"The report is {output}, a card of it {path.with_suffix('.md')}; "
            f"the features are kept in {folder}."
        )


def _read_metrics(text):
    from keras_simple_diffusion.evaluation import METRICS

    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise InputError(
            f"There is no metric '{unknown[0]}'. There are: "
            f"{', '.join(METRICS)}"
        )
    return names


def _read_list(text, kind, option):
    if text is None:
        return [None]
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"`{option}` is a number, or several separated by commas. "
            f"Received: {text}"
        ) from None


def _settle(folder, settings, resume):
    """Settings of a new evaluation, or those of the one to go on with."""
    from keras_simple_diffusion.evaluation.report import SETTINGS

    stored = folder / SETTINGS
    if stored.exists() != resume:
        raise InputError(
            f"'{folder}' holds an evaluation already. Pass --resume to go on "
            "with it, or choose another --output."
            if stored.exists()
            else f"'{folder}' holds no evaluation. Leave --resume out."
        )
    if resume:
        begun = _read_settings(stored)
        for key, value in settings.items():
            if key == "seed" and value is None:
                continue
            if begun.get(key) != value:
                raise InputError(
                    f"'{folder}' was begun with {key}={begun.get(key)}. "
                    f"Received: {key}={value}. Repeat its options to resume."
                )
        return begun
    if settings["seed"] is None:
        settings["seed"] = secrets.randbits(63)
    return settings


def _read_settings(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(
            f"'{path}' is damaged. Remove '{path.parent}' to begin anew."
        ) from None
