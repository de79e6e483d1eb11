"""Examples of public docstrings run, and docstrings are plain English."""

import ast
import doctest
import inspect
import pathlib
import re
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from tests.reference.torch_efficientnet import random_weights

PACKAGE = pathlib.Path(ksd.__file__).parent
ROOT = PACKAGE.parent

# Examples that cannot run here, with the reason.
NOT_RUN = {
    "distribution.initialize": "needs a second machine",
    "metrics.CLIPFeatures": "downloads weights",
    "metrics.DINOFeatures": "downloads weights",
    "evaluation.evaluate": "downloads weights",
    "metrics.InceptionFeatures": "downloads weights",
    "text.PretrainedTextEncoder": "downloads weights",
}

# Examples that need several devices.
ON_JAX = {
    "distribution.FullySharded",
    "distribution.distribute",
    "models.DiffusionBackbone.get_layout_map",
}


# Names that an example may use without defining them, beside `keras`,
# `keras_simple_diffusion`, `np` and `ops`.


def _images():
    return ksd.data.load_digits(image_size=16)[0][:16]


def _labels():
    return ksd.data.load_digits(image_size=16)[1][:16]


def _backbone():
    return ksd.models.UViTBackbone(
        (16, 16, 1), channels=(8,), blocks=(1,), num_classes=10
    )


def _model():
    model = ksd.models.DiffusionModel(_backbone(), num_steps=2)
    model.compile(keras.optimizers.Adam(1e-4))
    return model


def _data():
    return {"images": _images(), "labels": _labels()}


def _text_model():
    encoder = ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(["a red apple", "a ship"]),
        embedding_dim=8,
        num_layers=1,
        num_heads=2,
        sequence_length=4,
    )
    backbone = ksd.models.UViTBackbone(
        (16, 16, 1), channels=(8,), blocks=(1,), context_dim=8
    )
    return ksd.models.TextToImage(backbone, encoder, num_steps=2)


def _features():
    return lambda images: np.float32(images[:, ::4, ::4, 0]).reshape(-1, 16)


PREPARED = {
    "backbone": _backbone,
    "data": _data,
    "features": _features,
    "images": _images,
    "labels": _labels,
    "model": _model,
    "text_model": _text_model,
}


def public_members():
    """Public classes, their methods, and functions, by name."""
    for namespace in ksd.__all__:
        module = getattr(ksd, namespace)
        for name in getattr(module, "__all__", ()):
            member = getattr(module, name)
            yield f"{namespace}.{name}", member
            if inspect.isclass(member):
                for method in dir(member):
                    if not method.startswith("_"):
                        yield (
                            f"{namespace}.{name}.{method}",
                            inspect.getattr_static(member, method),
                        )


def find_examples():
    """Each docstring of this package with an example, once."""
    found = {}
    for name, member in public_members():
        member = getattr(member, "__func__", None) or member  # Class methods.
        member = getattr(member, "fget", None) or member  # Properties.
        module = getattr(member, "__module__", None) or ""
        doc = inspect.cleandoc(member.__doc__ or "")
        if module.startswith(ksd.__name__) and re.search(
            "^ *(>>>|```python)", doc, re.MULTILINE
        ):
            found.setdefault(doc, name)
    return {name: doc for doc, name in found.items()}


EXAMPLES = find_examples()


def cases():
    for name in sorted(EXAMPLES):
        backend = "jax" if name in ON_JAX else "torch"
        marks = [pytest.mark.any_backend(on=backend)]
        if name in NOT_RUN:
            marks.append(pytest.mark.skip(reason=NOT_RUN[name]))
        yield pytest.param(name, id=name, marks=marks)


class _Checker(doctest.OutputChecker):
    """Compares the output only if the example shows it."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


@pytest.mark.filterwarnings("ignore:A Fréchet distance")
@pytest.mark.filterwarnings("ignore:.* parameters were copied")
@pytest.mark.parametrize("name", list(cases()))
def test_example_runs(name, tmp_path, monkeypatch):
    doc = EXAMPLES[name]
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path)
    write_classifier(tmp_path)
    if "efficientnet_lite0.npz" in doc:
        weights = random_weights(np.random.default_rng(0))
        np.savez("efficientnet_lite0.npz", **weights)
    blocks = re.findall(r"^```python\n(.*?)^```", doc, re.DOTALL | re.M)
    parsed = doctest.DocTestParser().get_doctest(doc, {}, name, None, 0)
    source = "\n".join([*blocks, *(each.source for each in parsed.examples)])
    names = {n.id for n in ast.walk(ast.parse(source)) if type(n) is ast.Name}
    namespace = {
        "keras": keras,
        "keras_simple_diffusion": ksd,
        "np": np,
        "ops": keras.ops,
    }
    namespace |= {key: PREPARED[key]() for key in names & set(PREPARED)}
    for block in blocks:
        exec(compile(block, name, "exec"), namespace)
    parsed.globs = namespace
    report = []
    runner = doctest.DocTestRunner(
        _Checker(), verbose=False, optionflags=doctest.ELLIPSIS
    )
    runner.run(parsed, out=report.append)
    assert not report, "".join(report)


def write_photos(folder):
    """Write images of two classes as a folder and as a zip."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "photos.zip", "w") as file:
        for name in ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png"):
            path = folder / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            width = 32 if name.startswith("cats") else 48
            pixels = rng.integers(256, size=(24, width, 3), dtype="uint8")
            Image.fromarray(pixels).save(path)
            file.write(path, f"photos/{name}")


def write_classifier(folder):
    """Write a classifier of digits, `classifier.keras`."""
    classifier = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    classifier.save(folder / "classifier.keras")


def test_few_examples_do_not_run():
    assert set(NOT_RUN) <= set(EXAMPLES)
    assert len(NOT_RUN) <= 6


def docstrings(path):
    """Docstrings of a file with their lines."""
    tree = ast.parse(path.read_text())
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds):
            doc = ast.get_docstring(node)
            if doc:
                yield getattr(node, "lineno", 1), doc


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.any_backend
def test_first_line_says_what_it_is():
    """A verb for functions, a noun phrase for classes."""
    pattern = re.compile(r"(What|Whether|Which|How|Where|One that)\b")
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {doc.splitlines()[0]}"
        for path in FILES
        for line, doc in docstrings(path)
        if pattern.match(doc)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.any_backend
def test_images_have_one_name():
    """The word is *image*, except in the vocabularies of presets."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    files = [*FILES, *pages]
    files += [*(ROOT / "docs").glob("*.md"), *(ROOT / "guides").glob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search("picture", line, re.IGNORECASE)
    ]
    assert not wrong, "\n".join(wrong)
