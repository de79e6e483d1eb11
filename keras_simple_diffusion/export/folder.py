"""The folder of an exported model."""

import json
import pathlib
import shutil

import numpy as np

from keras_simple_diffusion import samplers
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.export import draw
from keras_simple_diffusion.export.formats import FORMATS
from keras_simple_diffusion.export.graphs import denoiser_graph
from keras_simple_diffusion.export.graphs import text_encoder_graph
from keras_simple_diffusion.export.steps import table_of_steps
from keras_simple_diffusion.generation.arguments import SamplingOptions
from keras_simple_diffusion.generation.arguments import is_guided
from keras_simple_diffusion.generation.conditions import Conditions
from keras_simple_diffusion.samplers import log_snr_grid
from keras_simple_diffusion.text import TextTransformer
from keras_simple_diffusion.text.text_transformer import WORDS
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_choice
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import new_folder
from keras_simple_diffusion.version import __version__

_README = """# {name}

An image diffusion model, written by `keras-simple-diffusion export` of version
{version}. It draws without Keras:

```
pip install numpy pillow {runtime}
python draw.py {examples}
```

or in Python, from this folder:

```python
import draw
model = draw.ExportedModel()
images = model.draw({conditions}, seed=0)  # uint8, (B, H, W, C)
```

- `draw.py`: the sampling loop in NumPy, to read and to copy.
- `model.json`: all that the loop needs, see below.
- `denoiser`: the network, from `images` `(B, H, W, C)` at the noise level
  `logsnr` `(B,)` and the condition to `clean`, the predicted clean images in
  [-1, 1], not clipped.
{encoder}{guide}
Arrays are float32, or int32 for `labels`, `mask`, `portrait` and `token_ids`.
{precision}

A step predicts `clean` at its `log_snr`, with and without the condition if it
is `guided`: `clean = without + guidance_scale (with - without)`. It clips
`clean` to `clip`, and goes on with

```
images = noisy images + clean clean + previous_clean previous + noise fresh
```

with the four weights of `steps` in `model.json`, the clean images of the step
before, and fresh standard normal noise. The drawing is the clean images of the
last step. `num_noises` counts the first noise and that of each step.
"""
_PRECISIONS = {
    "float32": "Weights and computations are in float32.",
    "float16": "Weights are stored in float16; computations are in float32.",
    "bfloat16": (
        "Weights are stored in float16; computations are in bfloat16 where "
        "the\nprocessor has it."
    ),
}
_ENCODER = """\
- `text_encoder`: from `token_ids` `(B, L)` to `embeddings` and `mask`, the
  condition. Without condition it is that of the empty text.
"""
_GUIDE = """\
- `guide`: a weaker network of the same form. Its `clean` is the one `without`
  the condition in the formula below.
"""


def export_model(
    model,
    output,
    format="onnx",
    precision="float32",
    num_steps=None,
    guidance_scale=None,
    guidance_interval=None,
    sampler=None,
    spacing="time",
    name=None,
):
    """Write a model as a folder that draws without Keras.

    The folder holds the network as `denoiser.onnx`, `denoiser.xml` or the
    SavedModel `denoiser`; for texts also `text_encoder`; `model.json`, the
    weights of each step of the sampler and all else that a loop needs;
    `draw.py`, such a loop in NumPy; and a `README.md` that explains these.

    Args:
        model: a `DiffusionModel`, or a `TextToImage` with a
            `TextTransformer`. Its averaged weights are exported, in float32.
        output: path of the folder. It must be new or empty.
        format: string, `"onnx"`, `"openvino"` or `"saved_model"`. Defaults to
            `"onnx"`.
        precision: string. `"float16"` stores weights with half of the bits,
            and computes in float32; `"bfloat16"`, for OpenVINO, also computes
            in bfloat16 where the processor has it. Defaults to `"float32"`.
        num_steps: int. Defaults to the model's.
        guidance_scale: float. Defaults to the model's.
        guidance_interval: tuple `(low, high)` of log-SNRs outside of which
            there is no guidance. Defaults to `None`.
        sampler: a `keras_simple_diffusion.samplers.Sampler`, or its name. Its
            steps must be weighted sums, as those of DDPM, DDIM and
            DPM-Solver++ are. Defaults to the model's.
        spacing: string, see `keras_simple_diffusion.samplers.log_snr_grid`.
            Defaults to `"time"`.
        name: string, the name of the model in the README. Defaults to that
            of the folder.

    Returns:
        The largest difference between predicted clean images of the exported
        networks and of the model, in [-1, 1], a float.

    Raises:
        InputError: if the model, the backend or an option does not fit, if a
            package is missing, or if the folder holds anything.
    """
    check_choice("format", format, tuple(FORMATS))
    form = FORMATS[format]
    form.check(format, precision)
    if not is_unused(output):
        raise InputError(
            f"'{output}' holds something already. Choose another `output`."
        )
    encoder = getattr(model, "text_encoder", None)
    if not isinstance(encoder, (TextTransformer, type(None))):
        raise InputError(
            "Only text encoders are exported that are trained with the model, "
            f"TextTransformer. Received: a {type(encoder).__name__}"
        )
    options = SamplingOptions(
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        sampler=sampler,
        spacing=spacing,
    )
    description = {"precision": precision, **describe(model, options)}
    graphs = denoiser_graph(model), encoder and text_encoder_graph(model)
    guide = None
    if description["guide"]:
        guide = denoiser_graph(model.guidance_model, description["guide"])
    with new_folder(output) as draft:
        for graph in filter(None, (*graphs, guide)):
            form.write(graph, draft / graph.name, precision)
        text = json.dumps(description, ensure_ascii=False, indent=1)
        (draft / "model.json").write_text(text, encoding="utf-8")
        shutil.copyfile(draw.__file__, draft / "draw.py")
        readme = _readme(name or pathlib.Path(output).name, description, form)
        (draft / "README.md").write_text(readme, encoding="utf-8")
        differences = [_difference(*graphs, draft, description)]
        if guide is not None:
            differences += [_difference(guide, None, draft, description)]
        return max(differences)


def describe(model, options):
    """Describe all that a sampling loop needs to know.

    Args:
        model: a `DiffusionModel` or `TextToImage`.
        options: `SamplingOptions`.

    Returns:
        A dict of JSON values, the content of `model.json` but its precision.
    """
    backbone, encoder = model.backbone, getattr(model, "text_encoder", None)
    condition = "label" if backbone.num_classes is not None else None
    text = None
    if encoder is not None:
        condition = "text"
        text = {
            "sequence_length": encoder.sequence_length,
            # The words of a text in lower case, as a regular expression.
            "words": WORDS,
            "vocabulary": encoder.vocabulary,
        }
    given = {"condition": None} if condition else {}
    options = options.resolve(model, Conditions(1, given))
    grid = log_snr_grid(model.schedule, options.num_steps, options.spacing)
    low, high = options.guidance_interval or (-np.inf, np.inf)
    guides = is_guided(model, options.guidance_scale)
    steps = table_of_steps(options.sampler, grid)
    for step in steps:
        step["guided"] = guides and bool(low <= step["log_snr"] <= high)
    return {
        "image_shape": list(backbone.image_shape),
        "condition": condition,
        "num_classes": backbone.num_classes,
        "class_names": getattr(model, "class_names", None),
        "text": text,
        "portrait": backbone.portrait_flag,
        "guidance_scale": float(options.guidance_scale),
        # The network of the weaker prediction, if it is another one.
        "guide": "guide" if options.guidance_model else None,
        "guidance_range": backbone.guidance_range,
        "clip": [-1.0, 1.0],
        "sampler": samplers.identify(options.sampler),
        "num_noises": len(steps) if any(s["noise"] for s in steps) else 1,
        "steps": steps,
    }


def _readme(name, description, form):
    """Write the README of a folder."""
    examples = {
        None: [],
        "label": (description["class_names"] or ["0", "1"])[:2],
        "text": ["a drawing"],
    }[description["condition"]]
    return _README.format(
        name=name,
        version=__version__,
        runtime=form.runtime,
        precision=_PRECISIONS[description["precision"]],
        examples=" ".join(f'"{each}"' for each in examples),
        conditions=examples,
        encoder=_ENCODER if description["text"] else "",
        guide=_GUIDE if description["guide"] else "",
    )


def _difference(denoiser, encoder, folder, description):
    """Compare exported networks with the model at two noise levels.

    Args:
        denoiser: the functional `keras.Model`.
        encoder: that of texts, or `None`. It computes the condition.
        folder: `pathlib.Path` of the exported folder.
        description: dict, the content of `model.json`. The noisier of the
            levels is that of its first step.

    Returns:
        The largest difference of the predicted clean images, clipped as the
        loop does, a float.
    """
    rng = np.random.RandomState(0)
    log_snr = description["steps"][0]["log_snr"]
    arrays = {"logsnr": np.array([log_snr, 0.0], "float32")}
    conditions = {}, {}

    def networks(graph):
        def compute(arrays):
            results = graph(arrays).items()
            return {name: native.to_numpy(tensor) for name, tensor in results}

        return compute, draw.load(folder, graph.name, description["precision"])

    if encoder is not None:
        ids = rng.randint(
            len(description["text"]["vocabulary"]),
            size=(2, description["text"]["sequence_length"]),
        ).astype("int32")
        conditions = [f({"token_ids": ids}) for f in networks(encoder)]
    for name, each in denoiser.input.items():
        shape = (2, *each.shape[1:])
        if name in arrays or name in conditions[0]:
            continue
        if each.dtype == "int32":
            arrays[name] = rng.randint(0, 2, shape).astype("int32")
        else:
            arrays[name] = rng.normal(size=shape).astype("float32")
    expected, found = (
        f({**arrays, **condition})["clean"].clip(*description["clip"])
        for f, condition in zip(networks(denoiser), conditions, strict=True)
    )
    return float(np.abs(found - expected).max())
