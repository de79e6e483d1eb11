import io
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from PIL import features

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.loading import VEHICLES
from tools import write_vehicles

pytestmark = pytest.mark.any_backend

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
CLASSES = ["Motorbikes", "airplanes", "car_side", "ketch"]
ENCODER = "3.2.0"  # It wrote the package's file.
COUNTS = {"train": [232, 230, 82, 76], "test": [108, 110, 41, 38]}


def decode(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image, "float32")


def test_arrays():
    train = ksd.data.load_vehicles(32, "train")
    test = ksd.data.load_vehicles(32, "test")
    for part, split in ((train, "train"), (test, "test")):
        assert part.class_names == CLASSES
        assert part.images.dtype == "uint8" and part.labels.dtype == "int32"
        assert part.images.shape == (sum(COUNTS[split]), 32, 32, 3)
        assert np.bincount(part.labels).tolist() == COUNTS[split]
    images, labels, names = ksd.data.load_vehicles((16, 24))
    assert images.shape == (917, 16, 24, 3) and names == CLASSES
    joined = np.concatenate([train.labels, test.labels])
    np.testing.assert_array_equal(labels, joined)


def test_labels_fit_the_images():
    images, labels, names = ksd.data.load_vehicles()
    assert images.shape[1:] == (64, 64, 3)
    colors = np.ptp(images.astype("int32"), axis=-1).mean(axis=(1, 2))
    cars = labels == names.index("car_side")  # The only gray class.
    assert colors[cars].max() < 2.0 < np.median(colors[~cars])
    # Most motorbikes stand before white, airplanes below the sky.
    edges = images[:, :4].mean(axis=(1, 2, 3))
    bikes, planes = (
        np.median(edges[labels == names.index(name)])
        for name in ("Motorbikes", "airplanes")
    )
    assert bikes > 240 > planes > 80


def test_no_image_is_in_both_splits():
    parts = [ksd.data.load_vehicles(64, part) for part in ("train", "test")]
    train, test = ({image.tobytes() for image in each[0]} for each in parts)
    assert not train & test


def test_invalid_arguments():
    with pytest.raises(ValueError, match="('all', 'train', 'test').*'dev'"):
        ksd.data.load_vehicles(64, "dev")
    with pytest.raises(ValueError, match="image_size=0"):
        ksd.data.load_vehicles(0)
    with pytest.raises(ValueError, match="at 'vehicle'.*: digits, vehicles"):
        ksd.data.open_data("vehicle", 64)
    with pytest.raises(ValueError, match="no split 'dev'"):
        ksd.data.open_data("vehicles", 64, "dev")


def test_opened_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = ksd.data.open_splits("vehicles", 64)
    assert {k: len(v) for k, v in sources.items()} == {
        split: sum(counts) for split, counts in COUNTS.items()
    }
    assert sources["train"].class_names == CLASSES
    images, labels, _ = ksd.data.load_vehicles(64, "train")
    for index in (0, 300, 619):
        example = sources["train"][index]
        np.testing.assert_array_equal(example["images"], images[index])
        assert example["labels"] == labels[index]


@pytest.mark.parametrize("name", ["vehicles", "digits"])
def test_a_folder_of_this_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / name / "black.png")
    with pytest.warns(UserWarning, match=f"is the packaged data.* './{name}'"):
        assert len(ksd.data.open_data(name, 16)) > 500
    assert len(ksd.data.open_data(f"./{name}", 16)) == 1
    assert len(ksd.data.open_data(pathlib.Path(name), 16)) == 1


def test_wheel(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    package = tmp_path / "keras_simple_diffusion"
    shutil.copytree(VEHICLES.parent, package / "data" / "vehicles")
    for name in ("__init__.py", "version.py", "data/__init__.py"):
        shutil.copy(REPOSITORY / package.name / name, package / name)
    code = "from setuptools import build_meta as b; b.build_wheel('.')"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        folder = "keras_simple_diffusion/data/vehicles"
        entry = wheel.getinfo(f"{folder}/vehicles.zip")
        assert entry.compress_size <= 4e6
        assert wheel.read(entry) == VEHICLES.read_bytes()
        text = wheel.read(f"{folder}/LICENSE.md").decode()
        licenses = [n for n in wheel.namelist() if ".dist-info/licenses/" in n]
        assert any(name.endswith("vehicles/LICENSE.md") for name in licenses)
    for words in ("Andreeto", "Ranzato", "Perona", "CC BY 4.0", "Changes"):
        assert words in text


def test_written_from_the_source(shared_data):
    with zipfile.ZipFile(shared_data / "caltech101_128.zip") as source:
        images = write_vehicles.choose(source)
    errors = []
    with zipfile.ZipFile(VEHICLES) as vehicles:
        assert vehicles.namelist() == list(images)
        for name, image in images.items():
            content = vehicles.read(name)
            if features.version("libjpeg_turbo") == ENCODER:
                assert write_vehicles.encode(image) == content
            difference = decode(content) - np.asarray(image, "float32")
            errors.append(np.sqrt(np.mean(difference**2)))
    assert max(errors) < 2.5
    rms = np.sqrt(np.mean(np.square(errors)))
    assert rms == pytest.approx(1.7, abs=0.05)


def test_roughness():
    stripes = np.zeros((64, 64, 3), "uint8")
    stripes[:, ::2] = 200  # Differs along rows by 200, along columns by 0.
    assert write_vehicles.roughness(Image.fromarray(stripes)) == 100.0
    stripes[:20] = stripes[-8:] = 90  # What is left is the vehicle.
    assert write_vehicles.roughness(Image.fromarray(stripes)) == 0.0
