"""A model as a folder of static files that draws in the visitor's browser."""

import json
import pathlib
import shutil

from keras_simple_diffusion.export.folder import export_model
from keras_simple_diffusion.export.web_runtime import find_runtime
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import new_folder
from keras_simple_diffusion.version import __version__

_PAGE = pathlib.Path(__file__).parent / "page"
_README = """# {name}

A page that draws images in the visitor's browser, written by
`keras-simple-diffusion export --format web` of version {version}. It consists
of static files, and needs no server but one of such files:

```
python -m http.server
```

in this folder, and http://localhost:8000/ in a browser; or upload the folder
to any static host.

| | |
|---|---|
| `index.html`, `style.css`, `*.js` | the page; `draw.js` is the sampling loop |
| `page.json` | the name of the model, and prompts to try |
| `model/` | the model as ONNX, see `model/README.md` |
| `runtime/` | ONNX Runtime Web, with its license |
"""


def export_web(model, output, name=None, prompts=(), runtime=None, **options):
    """Write a folder of static files that draws in the visitor's browser.

    The folder holds a page, the model as `export_model` writes it in the
    format `"onnx"`, and ONNX Runtime Web, which is downloaded from the
    registry of npm once. The images of a seed are those of `generate`, up to
    rounding.

    Args:
        model: see `export_model`.
        output: path of the folder. It must be new or empty.
        name: string, the title of the page. Defaults to the folder's name.
        prompts: list of strings, which the page of a `TextToImage` suggests.
            Defaults to none.
        runtime: path of the npm package `onnxruntime-web`, as a tarball or
            unpacked, to use instead of a download. Defaults to `None`.
        **options: other options of `export_model`, but `format`.

    Returns:
        The largest difference between predicted clean images of the exported
        networks and of the model, in [-1, 1], a float.

    Raises:
        InputError: see `export_model`; and if the runtime cannot be
            downloaded, or is another package.
    """
    if not is_unused(output):
        raise InputError(
            f"'{output}' holds something already. Choose another `output`."
        )
    if prompts and not hasattr(model, "text_encoder"):
        raise InputError(
            "`prompts` are for the page of a TextToImage. Received: "
            f"prompts={list(prompts)}, and a {type(model).__name__}"
        )
    name = name or pathlib.Path(output).name
    files = find_runtime(runtime)
    with new_folder(output) as draft:
        difference = export_model(
            model, draft / "model", format="onnx", name=name, **options
        )
        (draft / "runtime").mkdir()
        for file, content in files.items():
            (draft / "runtime" / file).write_bytes(content)
        shutil.copytree(_PAGE, draft, dirs_exist_ok=True)
        page = {
            "name": name,
            "prompts": list(prompts),
            "bytes": {
                path.name: path.stat().st_size
                for path in sorted((draft / "model").glob("*.onnx"))
            },
        }
        text = json.dumps(page, ensure_ascii=False, indent=1)
        (draft / "page.json").write_text(text, encoding="utf-8")
        readme = _README.format(name=name, version=__version__)
        (draft / "README.md").write_text(readme, encoding="utf-8")
    return difference
