"""A folder that shows the app as a Space of Hugging Face."""

import importlib.metadata
import pathlib
import re
import shutil

from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import new_folder
from keras_simple_diffusion.utils.presets import check_folder
from keras_simple_diffusion.version import __version__

GRADIO = "6.31.0"  # The version that was tested.
_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
_APP = '''"""The app of a Space: a page to play with the model."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_simple_diffusion.app import serve
from keras_simple_diffusion.models import Preset

serve(Preset.open({model!r}).load(), {name!r}, host="0.0.0.0")
'''
_CARD = """---
title: {name}
emoji: 🎨
sdk: gradio
sdk_version: {gradio}
app_file: app.py
license: apache-2.0
---

# {name}

A page to play with an image diffusion model, made by `keras-simple-diffusion
app --export-space` of version {version}.

| | |
|---|---|
| `app.py` | starts the page |
| `requirements.txt` | the packages that it needs |
| `keras_simple_diffusion/` | the library, version {version} |
{model}
Upload the folder to a Space, or try it here: `pip install -r requirements.txt`
and `python app.py`. `KERAS_BACKEND` chooses another backend than PyTorch.
"""


def export_space(model, output):
    """Write a folder that shows the app as a Space of Hugging Face.

    It holds the library and the model, so that it needs nothing else of this
    machine.

    Args:
        model: string, see `keras_simple_diffusion.models.Preset.open`. A model
            of the Hub is not copied but loaded from there.
        output: path of the folder. It must be new or empty.

    Raises:
        InputError: if there is no such model, if it has no weights, or if the
            folder holds anything.
    """
    preset = Preset.open(model)
    if not preset.has_weights:
        raise InputError(
            f"The preset '{preset.name}' is a configuration without weights. "
            "Train it first."
        )
    if not is_unused(output):
        raise InputError(
            f"'{output}' holds something already. Choose another --output."
        )
    name = pathlib.PurePath(str(model)).name or "model"
    place, described = str(model), ""
    with new_folder(output) as draft:
        if preset.folder is not None:
            name = _name_of(preset.folder)
            place, described = "model", "| `model/` | the model, a preset |\n"
            check_folder(preset.folder)
            (draft / "model").mkdir()
            for path in sorted(preset.folder.iterdir()):
                if path.is_file():
                    shutil.copyfile(path, draft / "model" / path.name)
        shutil.copytree(
            _PACKAGE,
            draft / _PACKAGE.name,
            ignore=shutil.ignore_patterns("__pycache__", "presets", "vehicles"),
        )
        (draft / "app.py").write_text(_APP.format(model=place, name=name))
        (draft / "requirements.txt").write_text("\n".join(_requirements()))
        card = _CARD.format(
            name=name, gradio=GRADIO, version=__version__, model=described
        )
        (draft / "README.md").write_text(card, encoding="utf-8")


def _name_of(folder):
    folder = folder.resolve()
    return folder.parent.name if folder.name == "preset" else folder.name


def _requirements():
    """List what the library needs, with Gradio and PyTorch."""
    lines = [f"gradio=={GRADIO}"]
    for line in importlib.metadata.requires("keras-simple-diffusion"):
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if extra is None or extra[1] == "torch":
            lines.append(requirement.strip())
    return [*lines, ""]
