"""Pixels of any mode and color space as 8 bits of sRGB or gray."""

import dataclasses
import functools
import io
import warnings

import numpy as np
from PIL import Image
from PIL import ImageCms

# TIFF tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_VALUE = 258, 262, 281
_SAMPLE_FORMAT, _SMIN_VALUE, _SMAX_VALUE = 339, 340, 341
_DARK = 1 / 16  # Of the range: what leaves 4 bits of 8.
_MAX_PROFILE = 2**22  # Bytes; the largest in use are those of printing inks.


@dataclasses.dataclass(frozen=True)
class Values:
    """The raw values of an image of more than 8 bits, and their range.

    Args:
        low: smallest value.
        high: largest value.
        black: the value that becomes 0.
        white: the value that becomes 255.
    """

    low: float
    high: float
    black: float
    white: float

    @property
    def is_dark(self):
        """Test if all values are in the darkest sixteenth of the range."""
        reach, span = self.high - self.black, self.white - self.black
        return self.high > self.low and 0 < span and reach < _DARK * span


def measure_values(image):
    """Return the `Values` of an image of more than 8 bits, or `None`.

    The range is the one that the file declares: by the TIFF tags
    MaxSampleValue or SMaxSampleValue, or else all values of its integer type.
    32 bits and floating point declare nothing useful. Their range is the first
    of `[0, 1]` (floating point only), `[0, 255]` and `[0, 65535]` that holds
    the values. Floating point may exceed 1 up to 2, as highlights do.

    Args:
        image: a `PIL.Image.Image` that is not loaded yet.

    Raises:
        ValueError: if the range cannot be told.
    """
    if image.mode in ("LA", "RGB", "RGBA") and _has_16_bits(image):
        # Pillow keeps the upper 8 bits of color.
        colors = image.getextrema()[: 1 if image.mode == "LA" else 3]
        low, high = np.array(colors).T * 257.0
        return Values(float(low.min()), float(high.max()), 0, 65535)
    if not _is_deep(image):
        return None
    samples = _samples(image)
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it has values that are not finite")
    black, white = _declared_range(image) or _range_of_type(image, low, high)
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == 0:  # White is zero; Pillow leaves it so.
        black, white = white, black
    return Values(low, high, black, white)


def _has_16_bits(image):
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _is_deep(image):
    """Return whether the mode of an image has more than 8 bits a channel."""
    return image.mode.startswith(("I", "F"))


def is_gray(image):
    """Return whether an image is stored without colors."""
    if image.mode == "P":
        palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        return bool((palette == palette[:, :1]).all())
    return _is_deep(image) or image.mode in ("1", "L", "LA", "La")


def to_8_bits(image, mode, values):
    """Convert an image of any mode to 8 bits a channel, without transparency.

    Transparent images are composed onto white. Colors of an embedded profile
    remain to be converted to sRGB: after resizing that is much faster, and
    differs by one gray level in the mean (`benchmarks/color_profiles.py`).

    Args:
        image: a `PIL.Image.Image`.
        mode: string, `"RGB"` or `"L"`.
        values: the `Values` of the image, or `None`, see `measure_values`.

    Returns:
        A tuple of a `PIL.Image.Image` and a function to sRGB of such images.
        The image already has this mode, and the function is `None`, without a
        profile that changes colors.
    """
    profile = image.info.get("icc_profile")
    gray = image.mode != "P" and is_gray(image)
    if values is not None and values.is_dark:
        warnings.warn(
            "An image of more than 8 bits uses the darkest sixteenth of its "
            "range only, and comes out nearly black. `inspect-data` names "
            "such images. Scale them, or declare the largest value of gray "
            "ones in the TIFF tag MaxSampleValue (281).",
            stacklevel=2,
        )
    if _is_deep(image):
        image = _scale(image, values)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode == "LAB":
        profile = None  # The mode says all.
    elif not profile:
        return image.convert(mode), None
    elif image.mode != "CMYK":
        image = image.convert("L" if gray else "RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert(mode), None
    return image, lambda resized: transform.apply(resized).convert(mode)


def _samples(image):
    """The raw values as an array; Pillow reads unsigned 32 bits as signed."""
    samples = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    is_unsigned = tags.get(_SAMPLE_FORMAT, (1,))[0] == 1
    if tags.get(_BITS_PER_SAMPLE) == (32,) and is_unsigned:
        samples = samples.view("uint32") if image.mode == "I" else samples
    return samples


def _declared_range(image):
    tags = getattr(image, "tag_v2", {})
    low, high = (_first(tags.get(n)) for n in (_SMIN_VALUE, _SMAX_VALUE))
    if image.mode != "F":
        # Other values than 2^n - 1 are statistics of this one image.
        low, high = 0, high or _first(tags.get(_MAX_VALUE))
        if high is not None and (high < 1 or high & (high + 1)):
            high = None
    if high is None or not (low or 0) < high:
        return None
    return float(low or 0), float(high)


def _first(value):
    return value[0] if isinstance(value, tuple) else value


def _range_of_type(image, low, high):
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    is_signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    if image.mode != "F" and bits <= 16:
        if not is_signed:
            return 0, 2**bits - 1
        black = -(2 ** (bits - 1)) if low < 0 else 0
        return black, 2 ** (bits - 1) - 1
    ends = (255, 65535)
    if image.mode == "F":
        # Resampling and compression may leave a little less than zero.
        ends, low = (1, *ends), low + 0.05 * (1 if high < 2 else high)
    for end in ends:
        if low >= 0 and high <= (2 if end == 1 else end):
            return 0, end
    if image.mode != "F" and low >= 0:
        return 0, 2 ** (bits - is_signed) - 1
    raise ValueError(
        f"its values from {float(_samples(image).min()):g} to {high:g} have no "
        "known range. Expected 0 to 1, 0 to 255 or 0 to 65535, or the TIFF "
        "tags SMinSampleValue and SMaxSampleValue"
    )


def _scale(image, values):
    samples = _samples(image).astype("float32")
    samples -= values.black
    samples *= 255 / (values.white - values.black)
    np.rint(samples, out=samples)
    np.clip(samples, 0, 255, out=samples)
    return Image.fromarray(samples.astype("uint8"))


@functools.lru_cache(maxsize=16)
def _transform(profile, mode):
    """The conversion to sRGB, or `None` if it is damaged or changes nothing."""
    if profile is not None and len(profile) > _MAX_PROFILE:
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB")
            if profile is None
            else ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    if mode not in ("L", "RGB"):
        return transform
    # A profile of sRGB itself should cost neither rounding nor time.
    levels = np.linspace(0, 255, 16).round().astype("uint8")
    colors = np.stack(np.meshgrid(levels, levels, levels), -1)
    colors = colors.reshape(16, -1, 3)
    sample = Image.fromarray(colors if mode == "RGB" else colors[..., 0].copy())
    found = np.asarray(transform.apply(sample), "int16")
    expected = np.asarray(sample.convert("RGB"), "int16")
    return None if abs(found - expected).max() <= 2 else transform
