"""The command `export`: a folder that draws without Keras."""

from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import image_settings
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.terminal import say


def export(
    model: shared.Model,
    output: Annotated[str, typer.Option(help="The folder, new or empty.")],
    format: Annotated[
        Literal["onnx", "openvino", "saved_model", "web"],
        typer.Option(
            help="Format of the network; web is a page that draws in the "
            "visitor's browser."
        ),
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "bfloat16"],
        typer.Option(
            help="float16 stores weights with half of the bits; bfloat16, of "
            "openvino, also computes with half of them."
        ),
    ] = "float32",
    steps: shared.Steps = None,
    guidance: shared.Guidance = None,
    guidance_interval: shared.GuidanceInterval = None,
    sampler: shared.SamplerName = None,
    spacing: shared.Spacing = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="Prompt that the web page suggests; can be repeated.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="The npm package onnxruntime-web for the web page, a tarball "
            "or a folder. (default: it is downloaded once)"
        ),
    ] = None,
):
    """Write a model as a folder that draws without Keras."""
    check_backend()
    from keras_simple_diffusion.export import export_model
    from keras_simple_diffusion.export import export_web
    from keras_simple_diffusion.export.formats import FORMATS

    is_web = format == "web"
    if not is_web and (prompts or runtime):
        raise InputError(
            "`--prompt` and `--runtime` are for `--format web`. Received: "
            f"format={format}"
        )
    network = "onnx" if is_web else format
    FORMATS[network].check(network, precision)  # Before the model is loaded.
    export = export_model
    specific = {"format": format}
    if is_web:
        export = export_web
        specific = {"prompts": prompts or (), "runtime": runtime}
    difference = export(
        shared.load_model(model),
        output,
        **specific,
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
        f"from Keras's clean images, in [-1, 1]: {difference:.1e}"
    )
    if is_web:
        say(
            f"Look at it: python -m http.server --directory {output}, and "
            "http://localhost:8000/ in a browser."
        )
