import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.inspection import examine
from keras_simple_diffusion.data.inspection import suggest_schedule
from keras_simple_diffusion.data.inspection import suggest_size

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
