"""Imports that commands put off, in processes of their own."""

import subprocess
import sys

import keras
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend import lazy_imports
from tests.helpers.commands import environment
from tests.helpers.models import make_backbone
from tests.helpers.models import make_text_encoder

# A command, and a program that goes on in its process.
PROGRAM = """
import sys

import keras_simple_diffusion as ksd
from keras_simple_diffusion import cli

_, preset, proto, is_tensorflow = sys.argv
sys.argv = ["keras-simple-diffusion", "generate", "--model", preset]
sys.argv += ["--prompt", "a", "--steps", "1", "--output", preset + ".png"]
try:
    cli.main()
except SystemExit as end:
    assert not end.code

absent = ["sklearn", "matplotlib", "tensorflow_datasets"]
if is_tensorflow == "no":
    absent += ["tensorflow", "tensorflow_text"]
for name in absent:
    assert name not in sys.modules, name
if is_tensorflow == "yes":
    sys.exit()

import keras_hub

# A tokenizer imports TensorFlow itself.
pieces = keras_hub.tokenizers.T5Tokenizer(open(proto, "rb").read())
assert pieces.detokenize(pieces("a red apple")) == "a red apple"
assert sys.modules["tensorflow"].constant(1).numpy() == 1
assert sys.modules["tensorflow_text"].__version__
cache = keras_hub.src.tokenizers.byte_pair_tokenizer.BytePairTokenizerCache()
cache.insert(["ab"], ["a b"])
assert cache.lookup(["ab"]).numpy().tolist() == [b"a b"]

# All other code gets the libraries as if nothing had been put off.
import tensorflow
import tensorflow.io.gfile
from keras.src.utils import module_utils

assert tensorflow is sys.modules["tensorflow"]
assert module_utils.tensorflow.available
images, labels = ksd.data.load_digits(8, "test")
assert len(images) == 360 and "sklearn" in sys.modules
"""


def test_a_command_imports_what_it_uses(tmp_path, shared_data):
    pytest.importorskip("tensorflow_text")
    model = ksd.models.TextToImage(
        make_backbone(num_classes=None, context_dim=8), make_text_encoder(["a"])
    )
    model.save_to_preset(tmp_path / "preset")
    is_tensorflow = keras.config.backend() == "tensorflow"
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            str(tmp_path / "preset"),
            str(shared_data / "t5_tokenizer" / "spiece.model"),
            "yes" if is_tensorflow else "no",
        ],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "preset.png").exists()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that nothing has imported, and an empty folder."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "left_behind").mkdir()
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("value = 3\n")
    (tmp_path / "some_package" / "part.py").write_text("value = 4\n")
    yield "some_package"
    for name in list(sys.modules):
        if name.startswith("some_package"):
            del sys.modules[name]


@pytest.mark.any_backend
def test_a_hidden_package_is_as_if_not_installed(package):
    with lazy_imports._hidden([package]):
        with pytest.raises(ImportError):
            import some_package
    import some_package

    assert some_package.value == 3
    with lazy_imports._hidden([package]):  # It is in use.
        import some_package

        assert some_package.value == 3
    assert sys.modules[package] is some_package


@pytest.mark.any_backend
@pytest.mark.parametrize("use", ["attribute", "module"])
def test_a_stand_in_imports_its_package_when_it_is_used(package, use):
    stand_in = lazy_imports._StandIn(package)
    sys.modules[package] = stand_in
    import some_package

    assert some_package is stand_in
    assert stand_in.__file__.endswith("__init__.py")
    assert not hasattr(stand_in, "Module")
    assert sys.modules[package] is stand_in
    if use == "module":
        from some_package import part

        assert part.value == 4
    assert stand_in.value == 3 and not hasattr(stand_in, "other")
    import some_package

    assert some_package is not stand_in and some_package.value == 3


@pytest.mark.any_backend
def test_only_what_is_installed_is_put_off(package):
    assert lazy_imports._can_be_put_off(package)
    assert not lazy_imports._can_be_put_off("no_such_package")
    assert not lazy_imports._can_be_put_off("left_behind")
    assert not lazy_imports._can_be_put_off("json")  # Already imported.
