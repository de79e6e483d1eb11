"""Image formats: which are read, and opening files of these formats only."""

import functools
import io
import math
import pathlib
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image
from PIL import UnidentifiedImageError
from PIL import features

# Only these decoders of Pillow see a file, whatever its name says.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF")
FORMATS += ("WEBP",) if features.check("webp") else ()
FORMATS += ("AVIF",) if features.check("avif") else ()
FORMATS += ("JPEG2000",) if features.check("jpg_2000") else ()
MAX_PIXELS = 178_956_970  # Pillow's limit for decompression bombs.

# Errors of Pillow and zipfile for damaged, missing and dangerous files.
UNREADABLE = (
    ArithmeticError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

_PIXELS = b"\x93NUMPY\x01\x00"  # The beginning of an array's .npy file.
_SUFFIXES = {
    "AVIF": ".avif .avifs",
    "BMP": ".bmp",
    "GIF": ".gif",
    "JPEG": ".jfif .jpe .jpeg .jpg .mpo .pjp .pjpeg",
    "JPEG2000": ".j2c .j2k .jp2 .jpc .jpf .jpx",
    "PNG": ".apng .png",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
}
_READ = {s for f in FORMATS for s in _SUFFIXES[f].split()}
# Images and collections of images that are not read. Raw photographs are TIFF
# files with a small preview, so these suffixes decide before the content.
_NOT_READ = {s for f in _SUFFIXES for s in _SUFFIXES[f].split()} - _READ
_NOT_READ.update(
    ".3fr .7z .ai .arw .bz2 .cr2 .cr3 .crw .cur .dcm .dcr .dds .dib .dng .emf "
    ".eps .erf .exr .fit .fits .gz .hdr .heic .heics .heif .hif .icns .ico "
    ".iiq .jxl .jxr .kdc .lmdb .mdc .mef .mos .mov .mp4 .mrw .nef .nrw .orf "
    ".pbm .pcx .pef .pgm .pnm .ppm .psb .psd .qoi .raf .rar .raw .rw2 .rwl "
    ".sgi .sr2 .srf .srw .svg .svs .tar .tfrecord .tga .tgz .wdp .webm .wmf "
    ".x3f .xbm .xcf .xpm .xz .zip".split()
)
# Never images, so they are not opened to look at their content.
_TEXT = set(
    ".caption .cfg .cls .css .csv .h5 .htm .html .ini .js .json .jsonl .log "
    ".md .npy .npz .parquet .pdf .pkl .pt .pth .py .rst .safetensors .sh "
    ".toml .tsv .txt .xls .xlsx .xml .yaml .yml".split()
)
_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"v/1\x01", "OpenEXR"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
)
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"mif1"), "HEIC"),
}


def format_of(head):
    """Return the format of an image file.

    Args:
        head: bytes, the beginning of the file.

    Returns:
        A string, such as `"JPEG"` or `"HEIC"`, or `None` if it is unknown.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = (head[i : i + 4] for i in (8, *range(16, len(head), 4)))
        return next(filter(None, map(_BRANDS.get, brands)), None)
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace():
        return "PPM"
    known = (name for mark, name in _BEGINNINGS if head.startswith(mark))
    return next(known, None)


def is_image_name(name):
    """Tell if a file has the suffix of an image that is read."""
    return pathlib.PurePosixPath(name).suffix.lower() in _READ


def kind_of_file(name, read_head):
    """Return which role a file has by its name, or else its content.

    Args:
        name: string.
        read_head: function of the name that returns the file's beginning.

    Returns:
        `"image"`; a description of the kind, such as `".heic"`, if it is an
        image or a collection of images in a format that is not read; or
        `None` for any other file.
    """
    if is_image_name(name):
        return "image"
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if suffix in _NOT_READ:
        return suffix
    if suffix in _TEXT:
        return None
    found = format_of(read_head(name))
    return "image" if found in FORMATS else found


def open_image(content):
    """Open an image of one of `FORMATS`, whose header bounds its pixels.

    Args:
        content: bytes of the file.

    Returns:
        A `PIL.Image.Image`, not decoded yet.

    Raises:
        UnidentifiedImageError: if it is of no such format.
        Image.DecompressionBombError: if it has too many pixels.
    """
    pixels = read_pixels(content)
    if pixels is not None:
        is_gray = pixels.shape[2] == 1
        image = Image.fromarray(pixels[..., 0] if is_gray else pixels)
        image.format = "NPY"
        return image
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        found = format_of(content[:64])
        reason = "it is no image"
        if found in FORMATS:
            reason = f"its {found} header is damaged"
        elif found is not None:
            reason = f"it is {found}, a format that is not read"
        raise UnidentifiedImageError(reason) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} pixels are more than the "
            f"{MAX_PIXELS:,} that an image may have"
        )
    return image


def write_pixels(pixels):
    """Encode decoded pixels as the bytes of an `.npy` file.

    Args:
        pixels: `uint8` array of shape `(H, W, 1)` or `(H, W, 3)`.
    """
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(pixels))
    return file.getvalue()


def read_pixels(content):
    """Return the pixels that `write_pixels` encoded, without a copy.

    Args:
        content: bytes of a file.

    Returns:
        A `uint8` array of shape `(H, W, C)`, or `None` if it is a file of
        another format.

    Raises:
        ValueError: if the array is not an image, or is cut off.
    """
    if not content.startswith(_PIXELS):
        return None
    (length,) = struct.unpack("<H", content[8:10])
    start = 10 + length
    shape = _shape_of_pixels(content[:start])
    if len(content) != start + math.prod(shape):
        raise ValueError(f"{len(content)} bytes are not an array {shape}")
    return np.frombuffer(content, "uint8", offset=start).reshape(shape)


@functools.lru_cache(maxsize=64)
def _shape_of_pixels(header):
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.uint8 or is_fortran or shape[2:] not in ((1,), (3,)):
        raise ValueError(f"an array {shape} of {dtype} is not an image")
    return shape


def reason_of(error):
    """Say why an image cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return str(error)
    return f"{type(error).__name__}: {error}"
