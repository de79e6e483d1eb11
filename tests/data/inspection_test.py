import numpy as np
import pytest
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.inspection import examine
from keras_simple_diffusion.data.inspection import share_of_drawings
from keras_simple_diffusion.data.inspection import suggest_schedule
from keras_simple_diffusion.data.inspection import suggest_size
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.data.sources import take

pytestmark = pytest.mark.any_backend


def test_facts(tmp_path, encode, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encode(image(0), "jpeg", exif=exif))
    frames = [Image.fromarray(image(i, (9, 9))) for i in range(3)]
    content = encode(frames[0], "gif", save_all=True, append_images=frames[1:])
    (tmp_path / "b.gif").write_bytes(content)
    (tmp_path / "c.png").write_bytes(encode(image(0))[:300])
    (tmp_path / "d.webp").write_bytes(b"")
    upright, animated, cut, empty = examine(ksd.data.open_data(tmp_path, 8))
    assert upright.size == (20, 30) and upright.mode == "RGB"
    assert upright.format == "JPEG" and upright.frames == 1
    assert upright.broken is None and upright.label is None
    assert animated.frames == 3 and animated.size == (9, 9)
    assert cut.size is None and "truncated" in cut.broken
    assert empty.broken == "it is no image" and empty.name == "d.webp"


def test_every_image_is_looked_at_in_order():
    facts = list(examine(ksd.data.open_data("digits", 8, "test")))
    assert [each.name for each in facts] == [str(i) for i in range(360)]
    _, labels = ksd.data.load_digits(8, "test")
    assert [each.label for each in facts] == labels.tolist()


@pytest.mark.parametrize(
    "sides, size",
    [((100, 100, 100, 20), 64), ((256,), 256), ((9,), 16), ((900,), 512)],
)
def test_size_suits_three_quarters(sides, size, tmp_path, encode, image):
    for i, side in enumerate(sides):
        content = encode(image(0, (side, side + 40)))
        (tmp_path / f"{i}.png").write_bytes(content)
    facts = list(examine(ksd.data.open_data(tmp_path, 8)))
    assert suggest_size(facts) == size


def test_suggestions_exist():
    for size in (16, 64, 100, 128, 512, 1000):
        schedule = eval(f"ksd.schedules.{suggest_schedule(size)[0]}")
        assert schedule.image_size == size
        assert schedule.noise_size == min(size, 64)


@pytest.mark.parametrize(
    "name, low, high",
    [
        ("noto_emoji_128.zip", 0.6, 1.0),
        ("vehicles", 0.0, 0.2),
        ("caltech101_128.zip", 0.0, 0.1),
        ("imagenette_64.zip", 0.0, 0.1),
        ("cifar10_32_jpeg_12k.zip", 0.0, 0.1),
        ("coco_mini_captions_256.zip", 0.0, 0.1),
    ],
)
def test_drawings_are_told_from_photographs(shared_data, name, low, high):
    if name != "vehicles":
        name = shared_data / name
    sample = take(ksd.data.open_data(name, 32), 100)
    images = stack([sample[i] for i in range(len(sample))])["images"]
    assert low <= share_of_drawings(images) <= high


def test_letters_are_drawings():
    images = []
    for letter in "ABCDEFGHKMNRSXYZ":
        image = Image.new("RGB", (32, 32), "white")
        font = ImageFont.load_default(28)
        ImageDraw.Draw(image).text((7, 0), letter, fill="navy", font=font)
        images.append(np.asarray(image))
    assert share_of_drawings(np.stack(images)) == 1.0
    gray = np.stack(images)[..., :1]
    assert share_of_drawings(gray) == 1.0
    noise = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), "uint8")
    assert share_of_drawings(noise) == 0.0
    assert share_of_drawings(np.zeros_like(noise)) == 1.0
