import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.metrics import inception_weights
from keras_simple_diffusion.metrics.resizing import bilinear_matrix
from keras_simple_diffusion.utils.errors import InputError

torch = pytest.importorskip("torch")
from tests.reference import torch_inception  # noqa: E402

WEIGHTS = "inception2015_fid_fp32.npz"


def real_images(shared_data, count):
    source = ksd.data.open_data(shared_data / "imagenette_64.zip", 64)
    numbers = np.linspace(0, len(source) - 1, count).astype(int)
    return np.stack([source[int(i)]["images"] for i in numbers])


@pytest.mark.parametrize("resize", ["original", "pytorch"])
@pytest.mark.parametrize(
    "count", [2, pytest.param(64, marks=pytest.mark.large)]
)
def test_features_equal_the_reference(shared_data, resize, count):
    path = shared_data / WEIGHTS
    images = real_images(shared_data, count)
    network = ksd.metrics.InceptionFeatures(path, resize, min(count, 16))
    ours = network(images)
    weights = dict(np.load(path))
    for start in range(0, count, 16):
        part = slice(start, start + 16)
        theirs = torch_inception.features(images[part], weights, resize)
        np.testing.assert_allclose(ours[part], theirs, atol=1e-4)
    assert 0.2 < ours.mean() < 1.0


@pytest.mark.parametrize("size", [16, 64, 299, 512])
def test_pytorch_resizing_is_torchs(size):
    rows = np.random.default_rng(0).uniform(0, 255, (size, 5))
    image = torch.tensor(rows.astype("float32"))[None, None]
    theirs = torch.nn.functional.interpolate(image, (299, 5), mode="bilinear")
    ours = bilinear_matrix(size, 299, "pytorch") @ rows
    # Coordinates near 512 are multiples of 3e-5 in float32.
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=0.02)


def test_original_resizing_has_its_pixels_at_multiples():
    matrix = bilinear_matrix(4, 8, "original")
    expected = [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    np.testing.assert_allclose(matrix @ np.arange(4.0), expected)


def test_published_layout_is_folded(shared_data, tmp_path):
    expected = dict(np.load(shared_data / WEIGHTS))
    rng = np.random.default_rng(0)
    state = {}
    for ours, theirs in inception_weights.LAYERS.items():
        bias = expected[f"{ours}/bias"].astype("float64")
        scale, mean = rng.uniform(0.5, 2.0, (2, len(bias)))
        variance = rng.uniform(0.5, 2.0, len(bias))
        folded = scale / np.sqrt(variance + 1e-3)
        kernel = expected[f"{ours}/kernel"] / folded
        for name, value in {
            "conv.weight": kernel.transpose(3, 2, 0, 1),
            "bn.weight": scale,
            "bn.bias": bias + mean * folded,
            "bn.running_mean": mean,
            "bn.running_var": variance,
        }.items():
            state[f"{theirs}.{name}"] = torch.tensor(np.array(value))
    logits = rng.normal(size=(1008, 2048)).astype("float32")
    state["fc.weight"] = torch.tensor(logits)
    torch.save(state, tmp_path / "published.pth")
    weights, kernel, _ = inception_weights.load_inception(
        tmp_path / "published.pth"
    )
    np.testing.assert_array_equal(kernel, logits.T)
    assert set(weights) == set(expected)
    for name, value in weights.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6)


def test_wrong_files_are_told(tmp_path):
    with pytest.raises(InputError, match="no weights file"):
        ksd.metrics.InceptionFeatures(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="does not hold"):
        ksd.metrics.InceptionFeatures(tmp_path / "other.npz")
    with pytest.raises(InputError, match="resize"):
        ksd.metrics.InceptionFeatures(resize="bicubic")


def test_wrong_images_are_told(shared_data):
    network = ksd.metrics.InceptionFeatures(shared_data / WEIGHTS)
    with pytest.raises(InputError, match="uint8"):
        network(np.zeros((2, 8, 8, 3), "float32"))
    assert network(np.zeros((0, 8, 8, 3), "uint8")).shape == (0, 2048)


@pytest.mark.large
@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="Keras distributes on JAX"
)
@pytest.mark.filterwarnings("ignore:A Fréchet distance of")
def test_devices_and_batches_change_nothing(shared_data):
    path = shared_data / WEIGHTS
    images = real_images(shared_data, 48)

    def distance(batch_size):
        network = ksd.metrics.InceptionFeatures(path, batch_size=batch_size)
        a, b = (
            ksd.metrics.feature_statistics(part, network)
            for part in (images[:24], images[24:])
        )
        return ksd.metrics.frechet_distance(a, b)

    expected = distance(8)
    assert distance(6) == pytest.approx(expected, rel=1e-6)
    with ksd.distribution.distribute("data") as distribution:
        assert distribution.num_model_replicas == 8
        assert distance(8) == pytest.approx(expected, rel=1e-6)


@pytest.mark.any_backend
def test_a_failed_download_names_the_option_that_helps(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    missing = (tmp_path / "missing.pth").as_uri()
    monkeypatch.setattr(inception_weights, "_URL", missing)
    monkeypatch.setattr(
        keras.utils.get_file.__globals__["config"],
        "keras_home",
        lambda: str(tmp_path),
    )
    with pytest.raises(InputError, match="--feature-weights") as error:
        ksd.metrics.InceptionFeatures()
    assert "\n" not in str(error.value)


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["empty", "text", "pickled", "shapes", "nan"])
def test_damaged_weights_are_one_line(tmp_path, kind):
    arrays = {}
    for name in inception_weights.LAYERS:
        arrays[f"{name}/kernel"] = np.zeros((1, 1, 2, 2), "float32")
        arrays[f"{name}/bias"] = np.zeros(2, "float32")
    if kind == "shapes":
        arrays["conv/bias"] = np.zeros((2, 2), "float32")
    if kind == "nan":
        arrays["conv/bias"] = np.full(2, np.nan, "float32")
    if kind == "pickled":
        arrays["conv/bias"] = np.array([{}], object)
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    if kind in ("empty", "text"):
        path.write_bytes(b"text" if kind == "text" else b"")
    with pytest.raises(InputError, match="weights.npz"):
        ksd.metrics.InceptionFeatures(path)
