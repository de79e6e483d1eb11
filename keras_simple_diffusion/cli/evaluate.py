import json
import pathlib
import secrets
from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.cli import sampling
from keras_simple_diffusion.utils.backend import check_backend
from keras_simple_diffusion.utils.errors import InputError

_SETTINGS = "settings.json"


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            help="A run, a preset with weights, or a folder or zip of pictures."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(help="Real pictures: digits, a folder or zip, tfds:NAME."),
    ],
    metrics: Annotated[
        str,
        typer.Option(
            help="fid, fid_infinity, kid, precision_recall, density_coverage "
            "and nearest, separated by commas."
        ),
    ] = "fid,kid,precision_recall",
    num_images: Annotated[
        int | None,
        typer.Option(
            min=4, help="Pictures to draw. (default: 10000, or all given ones)"
        ),
    ] = None,
    feature_weights: Annotated[
        str | None,
        typer.Option(help="Weights of Inception. (default: downloads them)"),
    ] = None,
    resize: Annotated[
        Literal["original", "pytorch"],
        typer.Option(help="Resizing to Inception's 299 pixels."),
    ] = "original",
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
    sampler: sampling.SamplerName = None,
    seed: sampling.Seed = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures drawn at once.")
    ] = 64,
    resamples: Annotated[
        int,
        typer.Option(min=0, help="Bootstrap resamples for FID's interval."),
    ] = 20,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with this report.")
    ] = False,
    output: Annotated[
        str, typer.Option(help="The report, a .json file.")
    ] = "report.json",
):
    """Measure generated pictures against real ones: FID, KID and others."""
    check_backend()
    settings = {
        "model": model,
        "data": data,
        "num_images": num_images,
        "resize": resize,
        "steps": _read_list(steps, int, "--steps"),
        "guidance": _read_list(guidance, float, "--guidance"),
        "guidance_interval": guidance_interval,
        "sampler": sampler,
        "batch_size": batch_size,
        "seed": seed,
    }
    chosen = [name.strip() for name in metrics.split(",")]
    path = pathlib.Path(output)
    if path.suffix != ".json":
        raise InputError(
            f"The report is a .json file. Received: --output {output}"
        )
    from keras_simple_diffusion.cli.evaluation_report import write_report
    from keras_simple_diffusion.evaluation import METRICS
    from keras_simple_diffusion.metrics import InceptionFeatures

    unknown = [name for name in chosen if name not in METRICS]
    if unknown:
        raise InputError(
            f"There is no metric '{unknown[0]}'. There are: "
            f"{', '.join(METRICS)}"
        )
    features = InceptionFeatures(feature_weights, resize, min(batch_size, 32))
    settings["features"] = features.name
    folder = path.with_suffix(".features")
    settings = _begin(folder, settings, resume)
    write_report(path, folder, settings, chosen, features, resamples)
    print(f"The report is {output}; its features are kept in {folder}.")


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


def _begin(folder, settings, resume):
    """Settings of a new evaluation, or those of the one to go on with."""
    from keras_simple_diffusion.utils.files import whole_file

    stored = folder / _SETTINGS
    if stored.exists() != resume:
        raise InputError(
            f"'{folder}' holds an evaluation already. Pass --resume to go on "
            "with it, or choose another --output."
            if stored.exists()
            else f"'{folder}' holds no evaluation. Leave --resume out."
        )
    if resume:
        begun = json.loads(stored.read_text())
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
    with whole_file(stored) as draft:
        draft.write_text(json.dumps(settings, indent=2) + "\n")
    return settings
