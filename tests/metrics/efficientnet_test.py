import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError

torch = pytest.importorskip("torch")
from tests.reference import torch_efficientnet  # noqa: E402

WEIGHTS = "efficientnet_lite0_imagenet_fp16.npz"
# Of ImageNet, in the alphabetical order of Imagenette's names: cassette player,
# chain saw, church, springer, horn, truck, pump, golf ball, parachute, tench.
CLASSES = np.array([482, 491, 497, 217, 566, 569, 571, 574, 701, 0])


@pytest.fixture(scope="module")
def random_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    weights = torch_efficientnet.random_weights(np.random.default_rng(0))
    np.savez(path, **weights)
    return path


def images_of(count, size=224):
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, size, size, 3), "uint8")


def test_features_equal_the_reference(random_file):
    images = images_of(3)
    network = ksd.metrics.EfficientNetFeatures(random_file, batch_size=2)
    ours = network(images)
    theirs = torch_efficientnet.features(images, dict(np.load(random_file)))
    assert ours.shape == (3, 1280) and network.size == 1280
    assert theirs.std() > 0.1  # Neither dead nor clipped everywhere.
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.any_backend
def test_gray_images_are_colored_ones(random_file):
    network = ksd.metrics.EfficientNetFeatures(random_file, batch_size=2)
    gray = images_of(2, 40)[..., :1]
    np.testing.assert_allclose(
        network(gray), network(np.repeat(gray, 3, -1)), atol=1e-5
    )


@pytest.mark.any_backend
def test_published_weights_name_real_photographs(shared_data):
    path = shared_data / WEIGHTS
    source = ksd.data.open_data(shared_data / "imagenette_64.zip", 64, "test")
    chosen = [source[i] for i in range(0, len(source), len(source) // 40)]
    network = ksd.metrics.EfficientNetFeatures(path, batch_size=8)
    features = network(np.stack([each["images"] for each in chosen]))
    head = np.load(path)
    logits = features @ head["_fc.weight"].astype("float32").T
    found = (logits + head["_fc.bias"]).argmax(1)
    labels = CLASSES[[int(each["labels"]) for each in chosen]]
    # Of the 1,000 classes of ImageNet; 71 % of all photographs.
    assert np.mean(found == labels) > 0.5


@pytest.mark.any_backend
def test_another_file_has_another_name(random_file, tmp_path):
    weights = dict(np.load(random_file))
    weights["_conv_stem.weight"] *= 1.01
    np.savez(tmp_path / "other.npz", **weights)
    kind = ksd.metrics.EfficientNetFeatures
    assert kind(random_file).name == kind(random_file).name
    assert kind(tmp_path / "other.npz").name != kind(random_file).name


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "kind, message",
    [
        ("absent", "no weights file"),
        ("text", "not a .npz file"),
        ("missing", "_blocks.3._bn1.bias must be .* missing"),
        ("shape", "_conv_head.weight must be .* of shape"),
        ("nan", "must be finite"),
    ],
)
def test_wrong_files_are_one_line(random_file, tmp_path, kind, message):
    path = tmp_path / "weights.npz"
    weights = dict(np.load(random_file))
    if kind == "text":
        path.write_text("text")
    elif kind != "absent":
        if kind == "missing":
            del weights["_blocks.3._bn1.bias"]
        if kind == "shape":
            weights["_conv_head.weight"] = np.zeros((1, 1, 2, 2), "float32")
        if kind == "nan":
            weights["_bn0.bias"][0] = np.nan
        np.savez(path, **weights)
    with pytest.raises(InputError, match=message) as error:
        ksd.metrics.EfficientNetFeatures(path)
    assert "\n" not in str(error.value)
