"""The command `app`: a page in the browser to play with a model."""

import pathlib
from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend
from keras_simple_diffusion.cli import image_settings
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.terminal import say


def app(
    model: shared.Model,
    runs: Annotated[
        str | None,
        typer.Option(
            help="Folder of runs to compare. (default: that of the model's run)"
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at; 0.0.0.0 is the whole network of this "
            "machine."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="(default: the first free one from 7860)"
        ),
    ] = None,
    share: Annotated[
        bool,
        typer.Option(
            "--share", help="Make a public link, through servers of Gradio."
        ),
    ] = False,
    export_space: Annotated[
        str | None,
        typer.Option(
            help="Write a folder for a Space of Hugging Face instead."
        ),
    ] = None,
):
    """Show a page to draw, edit and look inside with a model."""
    check_backend()
    if export_space is not None:
        from keras_simple_diffusion.app.space import export_space as export

        export(model, export_space)
        say(f"The Space is in {export_space}. Upload it, or try its app.py.")
        return
    if runs is not None and not pathlib.Path(runs).is_dir():
        raise InputError(
            f"`--runs` is a folder of runs. Received: '{runs}', which is no "
            "folder."
        )
    from keras_simple_diffusion.app.limits import load_gradio
    from keras_simple_diffusion.app.server import serve

    load_gradio()  # Before the model, which takes longer.
    history = pathlib.Path(model) / "history.csv"
    if not history.is_file():
        history = None
    elif runs is None:
        runs = history.resolve().parent.parent
    serve(
        shared.load_model(model),
        image_settings.short_name(model),
        host=host,
        port=port,
        share=share,
        runs=runs,
        history=history,
    )
