import concurrent.futures
import io
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.data.decoding import Turns
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def decode(content, image_size, num_channels):
    return Decoder(image_size, num_channels)(content)["images"]


def test_decode_crops_the_centre_and_averages(encode):
    halves = np.zeros((40, 80, 3), "uint8")
    halves[:, :20] = 255  # Outside of the central square.
    np.testing.assert_array_equal(decode(encode(halves), 8, 3), 0)
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    grey = decode(encode(checkers.astype("uint8")), 16, 1)
    assert abs(grey.astype(int) - 127).max() <= 1


def test_modes_become_8_bits_without_transparency(encode):
    deep = np.full((8, 8), 32896, "uint16")
    np.testing.assert_array_equal(decode(encode(deep), 8, 1), 128)
    np.testing.assert_array_equal(decode(encode(deep, "tiff"), 8, 3), 128)
    clear = np.zeros((8, 8, 4), "uint8")
    np.testing.assert_array_equal(decode(encode(clear), 8, 3), 255)
    half = np.full((8, 8, 2), (0, 128), "uint8")  # Half transparent black.
    np.testing.assert_array_equal(decode(encode(half), 8, 3), 127)
    grey = np.full((8, 8), 77, "uint8")
    np.testing.assert_array_equal(decode(encode(grey), 8, 3), 77)
    bits = Image.new("1", (8, 8), 1)
    np.testing.assert_array_equal(decode(encode(bits), 8, 3), 255)
    # Without ink, and with half of the black ink.
    paper = Image.new("CMYK", (8, 8))
    assert (decode(encode(paper, "jpeg"), 8, 3) == 255).all()
    ink = Image.new("CMYK", (8, 8), (0, 0, 0, 128))
    assert abs(decode(encode(ink, "jpeg"), 8, 3).astype(int) - 127).max() <= 1


def test_palettes_and_animations(encode):
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    expected = np.broadcast_to([200, 100, 50], (8, 8, 3))
    np.testing.assert_array_equal(decode(encode(palette), 8, 3), expected)
    content = encode(palette, transparency=1)
    np.testing.assert_array_equal(decode(content, 8, 3), 255)
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "lime", "blue")]
    for suffix in ("gif", "png", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        content = encode(
            frames[0],
            suffix,
            save_all=True,
            append_images=frames[1:],
            **options,
        )
        assert Image.open(io.BytesIO(content)).n_frames == 3
        red = np.broadcast_to([255, 0, 0], (8, 8, 3))
        np.testing.assert_array_equal(decode(content, 8, 3), red)


def test_decode_turns_upright(encode, image):
    upright = image(3, (8, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotated by 90 degrees.
    turned = encode(np.rot90(upright).copy(), exif=exif)
    np.testing.assert_array_equal(decode(turned, 8, 3), upright)


def test_large_jpegs_are_decoded_small_with_antialiasing(encode, shared_data):
    with zipfile.ZipFile(shared_data / "coco_mini_captions_256.zip") as file:
        names = [name for name in file.namelist() if name.endswith(".jpg")]
        tiles = [Image.open(file.open(name)) for name in names[:12]]
    large = Image.new("RGB", (1024, 768))
    for i, tile in enumerate(tiles):
        large.paste(tile, (i % 4 * 256, i // 4 * 256))
    exif = Image.Exif()
    for orientation in (1, 6, 8):
        exif[0x0112] = orientation
        jpeg = encode(large, "jpeg", quality=95, exif=exif)
        # The same pixels in a format that has no draft.
        png = encode(Image.open(io.BytesIO(jpeg)), "png", exif=exif)
        for size in (64, (48, 80), 128):
            small = decode(jpeg, size, 3).astype(int)
            full = decode(png, size, 3).astype(int)
            # At most 0.4 in the mean and 8 were measured.
            assert abs(small - full).mean() < 0.6
            assert abs(small - full).max() < 15
    # The finest pattern is averaged away, not aliased.
    checkers = np.uint8(np.indices((512, 512)).sum(0) % 2 * 255)
    grey = decode(encode(checkers, "jpeg", quality=95), 32, 1).astype(int)
    assert abs(grey - 127).max() <= 2


def test_part_of_the_image(encode):
    ramp = np.tile(np.arange(200, dtype="uint8"), (10, 1))
    decoder = Decoder(10, 1)
    for position, first in ((None, 95), ((0.0, 0.5), 0), ((0.999, 0.5), 190)):
        images = decoder(encode(ramp), position)["images"]
        np.testing.assert_array_equal(images[0, :, 0], first + np.arange(10))
    down = decoder(encode(ramp.T), (0.5, 0.999))["images"]
    np.testing.assert_array_equal(down[:, 0, 0], 190 + np.arange(10))


def test_portraits_are_turned_on_their_side(encode, image):
    portrait = image(0, (20, 12, 3))
    decoder = Decoder((12, 20), turn_portrait=True)
    example = decoder(encode(portrait))
    assert example["portrait"] == 1 and example["portrait"].dtype == "int32"
    np.testing.assert_array_equal(example["images"], np.rot90(portrait))
    example = decoder(encode(portrait.swapaxes(0, 1).copy()))
    assert example["portrait"] == 0
    np.testing.assert_array_equal(example["images"], portrait.swapaxes(0, 1))
    # Upright comes first: by its EXIF this one is a landscape.
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoder(encode(portrait, exif=exif))["portrait"] == 0
    for size in (12, (20, 12)):
        with pytest.raises(InputError, match="wider than high"):
            Decoder(size, turn_portrait=True)


def test_extreme_shapes(encode):
    for shape in ((1, 20_000), (20_000, 3)):
        assert decode(encode(np.zeros(shape, "uint8")), 8, 3).shape == (8, 8, 3)
        images = decode(encode(np.zeros(shape, "uint8")), (4, 64), 1)
        assert images.shape == (4, 64, 1)
    dot = decode(encode(np.full((1, 1, 3), 9, "uint8"), "webp"), (2, 6), 3)
    assert dot.shape == (2, 6, 3)


# Pillow warns of damaged EXIF before it gives up, or does not.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_is_an_error_that_is_known(encode, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = [
        encode(image(0), "jpeg", exif=exif),
        encode(image(1), "jpeg", progressive=True),
        encode(Image.fromarray(image(2)).convert("CMYK"), "jpeg"),
        encode(image(3), "png", exif=exif),
        encode(Image.fromarray(image(4)).convert("P"), "gif"),
        encode(image(5), "webp"),
        encode(image(6), "bmp"),
    ]
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for trial in range(300):
        content = bytearray(contents[trial % len(contents)])
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] = rng.integers(256)
        try:
            images = decode(bytes(content), 8, 3)
            assert images.shape == (8, 8, 3)
            outcomes[True] += 1
        except UNREADABLE:
            outcomes[False] += 1
    assert min(outcomes.values()) > 30


def test_threads_share_a_number_of_pixels():
    turns, together, most = Turns(10), [], []

    def decode(pixels):
        with turns.take(pixels):
            together.append(pixels)
            most.append(sum(together))
            time.sleep(0.001)
            together.remove(pixels)

    sizes = [1, 4, 10, 3, 11, 9, 2, 5] * 5  # The 11 is decoded alone.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, sizes))
    assert len(most) == len(sizes) and max(most) == 11
    assert sum(total > 10 for total in most) == sizes.count(11)
    # An error gives the room back.
    with pytest.raises(KeyError), turns.take(10):
        raise KeyError
    with turns.take(10):
        pass
