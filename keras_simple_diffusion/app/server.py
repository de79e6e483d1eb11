"""The server of the page: where it listens, and what it keeps."""

import contextlib
import pathlib
import socket

from keras_simple_diffusion.app import limits
from keras_simple_diffusion.app import markup
from keras_simple_diffusion.app.drawing import Studio
from keras_simple_diffusion.app.page import Page
from keras_simple_diffusion.app.runs import Runs
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.terminal import say


def serve(
    model,
    name="model",
    host="127.0.0.1",
    port=None,
    share=False,
    runs=None,
    history=None,
):
    """Show a page to play with a model, until it is interrupted.

    Args:
        model: a `DiffusionModel` or `TextToImage`.
        name: string. Name of the model on the page and in files of images.
            Defaults to `"model"`.
        host: string. The address to listen at: that of this machine alone, or
            `"0.0.0.0"` for all of its network. Defaults to `"127.0.0.1"`.
        port: int. Defaults to the first free one from 7860.
        share: bool. Whether Gradio makes a public link to the page. Defaults
            to `False`.
        runs: path of a folder of runs to compare. Defaults to `None`.
        history: path of the `history.csv` of the model's run. Defaults to
            `None`.

    Raises:
        InputError: if Gradio is not installed, or the port is not free.
    """
    with served(model, name, host, port, share, runs, history) as page:
        say(f"The page is at {page.share_url or page.local_url} (Ctrl-C ends).")
        page.block_thread()


@contextlib.contextmanager
def served(
    model,
    name="model",
    host="127.0.0.1",
    port=None,
    share=False,
    runs=None,
    history=None,
    at_once=2,
):
    """Context in which the page is shown; arguments as those of `serve`.

    Args:
        at_once: int. Number of drawings that are computed at once. Defaults
            to `2`.

    Yields:
        The page, `gradio.Blocks`.
    """
    gr = limits.load_gradio()
    history = history and pathlib.Path(history)
    with limits.private_files() as folder:
        studio = Studio(model, name, folder, at_once)
        page = Page(gr, studio, Runs(runs), history).build()
        try:
            _check_port(host, port)
            page.launch(
                server_name=host,
                server_port=port,
                share=share,
                inbrowser=False,
                prevent_thread_lock=True,
                quiet=True,
                show_error=False,
                footer_links=[],
                run_history=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                enable_monitoring=False,
                allowed_paths=[],
                state_session_capacity=limits.MAX_VISITORS,
                max_file_size=limits.MAX_BYTES,
                theme=gr.themes.Base(
                    font=["system-ui", "sans-serif"],
                    font_mono=["ui-monospace", "monospace"],
                ),
                css=markup.STYLE,
            )
            yield page
        finally:
            page.close(verbose=False)


def _check_port(host, port):
    """Raise an `InputError` unless the page can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port or 0))
        except OSError as error:
            raise InputError(
                f"The app cannot listen at {host}, port {port}: "
                f"{error.strerror or error}. Choose another --host or --port."
            ) from None
