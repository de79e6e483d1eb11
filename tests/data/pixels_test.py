"""Values and colors of images of every mode."""

import concurrent.futures
import io
import struct

import numpy as np
import pytest
from PIL import Image
from PIL import ImageCms

from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.data.decoding import upright_size
from keras_simple_diffusion.data.formats import open_image
from keras_simple_diffusion.data.pixels import Values
from keras_simple_diffusion.data.pixels import measure_values
from tests.reference.icc_profile import PRIMARIES
from tests.reference.icc_profile import make_gray_profile
from tests.reference.icc_profile import make_ink_profile
from tests.reference.icc_profile import make_profile
from tests.reference.icc_profile import to_d50

pytestmark = pytest.mark.any_backend
RAMP = np.linspace(0, 1, 32)


def decoded(content, size=(8, 32), channels=1):
    return Decoder(size, channels)(content)["images"]


def ramp(encode, low, high, dtype):
    """An encoded image of 32 values from `low` to `high`, left to right."""
    row = low + (high - low) * RAMP
    row = row if dtype == "float32" else np.rint(row)
    return encode(np.tile(row.astype(dtype), (8, 1)), "tiff")


@pytest.mark.parametrize(
    "low, high, dtype, white",
    [
        (0, 65535, "uint16", 65535),
        (0, 1, "float32", 1),
        (0, 255, "float32", 255),
        (0, 65535, "float32", 65535),
        (0, 255, "int32", 255),
        (0, 65535, "int32", 65535),
        (0, 2**31 - 1, "int32", 2**31 - 1),
    ],
)
def test_ranges(low, high, dtype, white, encode):
    content = ramp(encode, low, high, dtype)
    values = measure_values(open_image(content))
    assert values == Values(low, high, 0, white)
    assert abs(decoded(content)[0, :, 0] - 255 * RAMP).max() <= 0.51


def test_highlights_and_overshoot_are_cut(encode):
    content = ramp(encode, -0.02, 1.5, "float32")
    expected = np.clip(255 * (-0.02 + 1.52 * RAMP), 0, 255)
    assert abs(decoded(content)[0, :, 0] - expected).max() <= 0.51


@pytest.mark.parametrize("low, high", [(-1, 1), (0, 1e6), (-300, 2000)])
def test_ranges_that_cannot_be_told(low, high, encode):
    with pytest.raises(ValueError, match="no known range.*SMinSampleValue"):
        decoded(ramp(encode, low, high, "float32"))
    array = np.asarray(open_image(ramp(encode, low, high, "float32")))
    tags = {340: float(low), 341: float(high)}
    content = encode(array, "tiff", tiffinfo=tags)
    assert abs(decoded(content)[0, :, 0] - 255 * RAMP).max() <= 0.51


def test_values_that_are_not_finite(encode):
    array = np.zeros((8, 8), "float32")
    for value in (np.nan, np.inf):
        array[3, 3] = value
        with pytest.raises(ValueError, match="not finite"):
            decoded(encode(array, "tiff"), 8)


def test_12_bits_in_16_are_declared_or_told(encode):
    array = np.tile(np.rint(4000 * RAMP).astype("uint16"), (8, 1))
    with pytest.warns(UserWarning, match="nearly black.*MaxSampleValue"):
        images = decoded(encode(array, "tiff"))
    assert images.max() == 16
    with pytest.warns(UserWarning, match="nearly black"):
        decoded(encode(array, "png"))
    content = encode(array, "tiff", tiffinfo={281: 4095})
    expected = 255 / 4095 * 4000 * RAMP
    assert abs(decoded(content)[0, :, 0] - expected).max() <= 0.55
    # The statistics of one image are no range.
    content = encode(array, "tiff", tiffinfo={281: 4000})
    assert measure_values(open_image(content)).white == 65535


def test_white_is_zero(encode):
    array = np.tile(np.rint(65535 * RAMP).astype("uint16"), (8, 1))
    content = encode(array, "tiff", tiffinfo={262: 0})
    expected = 255 - decoded(encode(array, "tiff"))
    np.testing.assert_array_equal(decoded(content), expected)


def write_tiff(data, bits, sample_format, channels=1):
    """A little-endian TIFF of 8 x 32 pixels, of types that Pillow can't write.

    Args:
        data: bytes of the pixels.
        bits: int, of a sample.
        sample_format: int, 1 for unsigned and 2 for signed.
        channels: int, 1 for gray or 3 for color.
    """
    tags = [(256, 32), (257, 8), (258, bits), (259, 1)]
    tags += [(262, 1 if channels == 1 else 2), (273, 8), (277, channels)]
    tags += [(278, 8), (279, len(data)), (339, sample_format)]
    content = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    content += struct.pack("<H", len(tags))
    for tag, value in tags:
        content += struct.pack("<HHII", tag, 4 if tag == 279 else 3, 1, value)
    return content + bytes(4)


def signed_16_bits(low, high):
    array = np.rint(low + (high - low) * RAMP).astype("<i2")
    return write_tiff(np.tile(array, (8, 1)).tobytes(), 16, 2)


def test_12_bits():
    row = np.rint(4095 * RAMP).astype("int")
    bits = "".join(f"{value:012b}" for value in row) * 8
    content = write_tiff(int(bits, 2).to_bytes(len(bits) // 8), 12, 1)
    assert measure_values(open_image(content)) == Values(0, 4095, 0, 4095)
    assert abs(decoded(content)[0, :, 0] - 255 * RAMP).max() <= 0.55


def test_16_bits_of_color():
    for white, is_dark in ((65535, False), (4000, True)):
        row = np.rint(white * RAMP).astype("<u2")
        data = np.repeat(np.tile(row, (8, 1))[..., None], 3, -1).tobytes()
        content = write_tiff(data, 16, 1, channels=3)
        assert open_image(content).mode == "RGB"
        assert measure_values(open_image(content)).is_dark == is_dark
        if is_dark:
            with pytest.warns(UserWarning, match="nearly black"):
                decoded(content, channels=3)
        else:
            images = decoded(content, channels=3)
            assert abs(images[0, :, 1] - 255 * RAMP).max() <= 1


def test_signed_values():
    content = signed_16_bits(0, 32767)
    assert measure_values(open_image(content)) == Values(0, 32767, 0, 32767)
    assert abs(decoded(content)[0, :, 0] - 255 * RAMP).max() <= 0.51
    content = signed_16_bits(-32768, 32767)
    values = Values(-32768, 32767, -32768, 32767)
    assert measure_values(open_image(content)) == values
    assert abs(decoded(content)[0, :, 0] - 255 * RAMP).max() <= 0.51


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_orientation(orientation, compression, encode, image):
    upright = Image.fromarray(image(0, (12, 20, 3)))
    turn = Image.Transpose
    stored = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    pixels = upright
    if orientation > 1:
        pixels = upright.transpose(stored[orientation])
    content = encode(
        pixels, "tiff", tiffinfo={274: orientation}, compression=compression
    )
    assert upright_size(open_image(content)) == (20, 12)
    images = decoded(content, (12, 20), 3)
    np.testing.assert_array_equal(images, np.asarray(upright))


def srgb_of_linear(linear):
    encoded = np.where(
        linear <= 0.0031308,
        12.92 * linear,
        1.055 * linear ** (1 / 2.4) - 0.055,
    )
    return 255 * encoded


def expected_srgb(colors, primaries, gamma):
    linear = (colors / 255.0) ** gamma
    xyz = linear @ to_d50(primaries).T
    linear = xyz @ np.linalg.inv(to_d50(PRIMARIES["srgb"])).T
    return srgb_of_linear(np.clip(linear, 0, 1))


@pytest.mark.parametrize("name", ["display_p3", "adobe_rgb"])
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpeg", "avif"])
def test_profiles_are_converted_to_srgb(name, suffix, encode):
    profile = make_profile(PRIMARIES[name], 2.2)
    options = {"lossless": True} if suffix == "webp" else {}
    if suffix in ("jpeg", "avif"):
        options = {"quality": 100, "subsampling": "4:4:4"}
    rng = np.random.default_rng(0)
    for color in rng.integers(20, 236, (12, 3), "uint8"):
        array = np.broadcast_to(color, (8, 8, 3)).copy()
        plain = decoded(encode(array, suffix, **options), 8, 3)[4, 4]
        content = encode(array, suffix, icc_profile=profile, **options)
        found = decoded(content, 8, 3)[4, 4]
        expected = expected_srgb(plain.astype(float), PRIMARIES[name], 2.2)
        assert abs(found - expected).max() <= 2.5
    # White and black stay, and so does transparency on white.
    for level in (0, 255):
        array = np.full((8, 8, 3), level, "uint8")
        content = encode(array, suffix, icc_profile=profile, **options)
        assert abs(decoded(content, 8, 3).astype(int) - level).max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gray_profiles(dtype, channels, encode):
    white = np.iinfo(dtype).max
    row = np.rint(white * RAMP).astype(dtype)
    content = encode(np.tile(row, (8, 1)), icc_profile=make_gray_profile(1.0))
    expected = srgb_of_linear(row / white)
    found = decoded(content, channels=channels)[4]
    # The darkest linear levels are far apart in sRGB.
    assert abs(found - expected[:, None])[2:].max() <= 2.5


def test_profiles_of_inks(encode):
    # Lightness is linear in the ink, for black and for the other three.
    for inks, lightness in (
        ((0, 0, 0, 0), 1),
        ((0, 0, 0, 128), 1 - 128 / 255),
        ((64, 128, 192, 0), 1 - (64 + 128 + 192) / 3 / 255),
        ((255, 255, 255, 255), 0),
    ):
        image = Image.new("CMYK", (8, 8), inks)
        content = encode(image, "tiff", icc_profile=make_ink_profile())
        y = ((100 * lightness + 16) / 116) ** 3 if lightness > 0.08 else 0
        found = decoded(content, 8, 3)[4, 4]
        assert abs(found - srgb_of_linear(np.array(y))).max() <= 3
        gray = decoded(content, 8, 1)[4, 4, 0]
        assert abs(int(gray) - int(found[1])) <= 2


def test_profiles_that_change_nothing(encode, image):
    expected = decoded(encode(image(0)), 8, 3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    p3 = make_profile(PRIMARIES["display_p3"], 2.2)
    for profile in (srgb, p3[:200], b"no profile", bytes(2**22 + 1)):
        content = encode(image(0), "tiff", icc_profile=profile)
        np.testing.assert_array_equal(decoded(content, 8, 3), expected)
    # One of colors in a gray image is not one of this image.
    gray = image(0, (9, 9))
    content = encode(gray, icc_profile=p3)
    np.testing.assert_array_equal(
        decoded(content, 9, 1), decoded(encode(gray), 9, 1)
    )


def test_lab(encode):
    white = Image.new("LAB", (8, 8), (255, 128, 128))
    image = open_image(encode(white, "tiff"))
    assert image.mode == "LAB"
    assert decoded(encode(white, "tiff"), 8, 3).min() > 250


def test_profiles_in_threads(encode, image):
    profile = make_profile(PRIMARIES["display_p3"], 2.2)
    contents = [encode(image(i), icc_profile=profile) for i in range(8)]
    expected = [decoded(content, 8, 3) for content in contents]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda c: decoded(c, 8, 3), contents * 20))
    for i, images in enumerate(found):
        np.testing.assert_array_equal(images, expected[i % 8])


def test_only_documented_formats_are_opened():
    image = Image.new("RGB", (8, 8))
    for suffix in ("ppm", "tga", "pcx", "ico", "eps", "pdf", "dds", "sgi"):
        file = io.BytesIO()
        image.save(file, suffix)
        with pytest.raises(Image.UnidentifiedImageError, match="it is "):
            open_image(file.getvalue())
