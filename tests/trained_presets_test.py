"""The presets with weights load offline and draw what they are asked."""

import h5py
import numpy as np
import pytest

from keras_simple_diffusion.models import Preset
from keras_simple_diffusion.training.setup import check_is_no_student
from keras_simple_diffusion.utils import presets
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "name",
    ["emoji", "emoji_teacher", "photos_64", "photos_64_student", "photos_128"],
)
def test_are_small_and_have_a_card(name):
    folder = presets.preset_folder(name)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size <= 20e6
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card
    kinds = set()
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(lambda _, item: kinds.add(getattr(item, "dtype", None)))
    assert kinds - {None} == {np.dtype("float16")}


@pytest.mark.parametrize(
    "name, num_steps", [("emoji", 4), ("emoji_teacher", 8)]
)
def test_emoji_take_their_colour_from_the_prompt(name, num_steps):
    model = Preset.open(name).load()
    asked = ["red heart", "blue heart", "green heart"]
    images = model.generate(asked, num_steps=num_steps, seed=0)
    assert images.shape == (3, 64, 64, 3)
    middle = images[:, 16:48, 16:48].mean((1, 2))
    assert middle.argmax(-1).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "name, teacher",
    [("emoji", "emoji_teacher"), ("photos_64_student", "photos_64")],
)
def test_a_student_names_its_teacher(name, teacher):
    preset = Preset.open(name)
    with pytest.raises(InputError, match=f"from, '{teacher}', and"):
        check_is_no_student(preset)
    check_is_no_student(Preset.open(preset.metadata["teacher"]))


@pytest.mark.parametrize(
    "name, size, num_steps",
    [
        ("photos_64", 64, 8),
        ("photos_64_student", 64, 4),
        ("photos_128", 128, 8),
    ],
)
def test_photographs_are_of_their_class(name, size, num_steps):
    model = Preset.open(name).load()
    labels = [model.class_names.index(n) for n in ("sunflower", "ketch")]
    images = model.generate(labels=labels, num_steps=num_steps, seed=0)
    assert images.shape == (2, size, size, 3)
    middle = images[:, size // 4 : -size // 4, size // 4 : -size // 4]
    flower, ship = (middle[..., 0] - 1.0 * middle[..., 2]).mean((1, 2))
    assert flower > 50  # Yellow,
    assert ship < 20  # between the sky and the sea.
    assert model.backbone.dtype_policy.name == "float32"
