"""The command `export`: a folder that draws without Keras."""

from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import image_settings
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.terminal import say


def export(
    model: shared.Model,
    output: Annotated[str, typer.Option(help="The folder, new or empty.")],
    format: Annotated[
        Literal["onnx", "openvino", "saved_model"],
        typer.Option(help="Format of the network."),
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "float16"],
        typer.Option(help="How weights are stored; it computes in float32."),
    ] = "float32",
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(help="Log-SNRs LOW,HIGH between which to guide."),
    ] = None,
    sampler: shared.SamplerName = None,
    spacing: shared.Spacing = None,
):
    """Write a model as a folder that draws without Keras."""
    check_backend()
    from keras_simple_diffusion.export import export_model
    from keras_simple_diffusion.export.formats import FORMATS

    FORMATS[format].check(format, precision)  # Before the model is loaded.
    difference = export_model(
        shared.load_model(model),
        output,
        format=format,
        precision=precision,
        num_steps=steps,
        guidance_scale=guidance,
        guidance_interval=shared.read_interval(guidance_interval),
        sampler=sampler,
        spacing=spacing or "time",
        name=image_settings.short_name(model),
    )
    say(
        f"The model is in {output}: see its README.md. Largest difference "
        f"from Keras's predictions: {difference:.1e}"
    )
