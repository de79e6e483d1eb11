"""Image files that are damaged, are none, declare too much, or are unusual."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

FORMATS = ("png", "jpeg", "webp", "gif", "bmp", "tiff")
LARGE = 5000  # Pixels of a side, beyond what the app takes.


def malformed_images(count, seed=0):
    """Make files, all kinds in turn.

    Args:
        count: int. Number of files.
        seed: int. Defaults to `0`.

    Yields:
        Tuples of the kind, the suffix and the content of a file. The kinds of
        `UNUSUAL` are whole images.
    """
    rng = np.random.default_rng(seed)
    kinds = {**DAMAGED, **UNUSUAL}
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        suffix = FORMATS[number // len(kinds) % len(FORMATS)]
        suffix, content = kinds[kind](rng, suffix)
        yield kind, suffix, content


def _noise(rng, *shape):
    return Image.fromarray(rng.integers(256, size=shape, dtype="uint8"))


def _encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _cut(rng, kind):
    content = _encode(_noise(rng, 30, 40, 3), kind)
    return kind, content[: rng.integers(4, len(content) * 3 // 4)]


def _changed(rng, kind):
    content = bytearray(_encode(_noise(rng, 30, 40, 3), kind))
    for place in rng.integers(min(len(content), 200), size=8):
        content[place] = rng.integers(256)
    return kind, bytes(content)


def _without_head(rng, kind):
    return kind, bytes(8) + _encode(_noise(rng, 30, 40, 3), kind)[8:]


def _png_of(width, height, data=b"", chunks=b""):
    """A PNG that declares its size, with compressed data."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [
            *(b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", head), chunks),
            *(_chunk(b"IDAT", zlib.compress(data)), _chunk(b"IEND", b"")),
        ]
    )


def _chunk(name, data):
    sum_ = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + sum_


def _large_bmp(rng, kind):
    content = bytearray(_encode(_noise(rng, 1, 1, 3), "bmp"))
    content[18:26] = struct.pack("<II", LARGE, LARGE)
    return "bmp", bytes(content)


def _large_gif(rng, kind):
    content = bytearray(_encode(_noise(rng, 1, 1), "gif"))
    content[6:10] = struct.pack("<HH", LARGE, LARGE)
    return "gif", bytes(content)


def _large(rng, kind):
    """Encode a large image of one color, which takes few bytes."""
    kind = ("png", "gif", "webp")[rng.integers(3)]
    return kind, _encode(Image.new("1", (LARGE, LARGE)).convert("L"), kind)


DAMAGED = {
    "cut": _cut,
    "changed bytes": _changed,
    "without its head": _without_head,
    "empty": lambda rng, kind: (kind, b""),
    "zeros": lambda rng, kind: (kind, bytes(1000)),
    "random bytes": lambda rng, kind: (kind, rng.bytes(500)),
    "web page": lambda rng, kind: (kind, b"<html>not found</html>"),
    "text": lambda rng, kind: ("txt", b"a text"),
    "PDF": lambda rng, kind: ("pdf", b"%PDF-1.7\n" + rng.bytes(100)),
    "declared too large": lambda rng, kind: (
        "png",
        _png_of(LARGE, LARGE, bytes(100)),
    ),
    "declared too large, BMP": _large_bmp,
    "declared too large, GIF": _large_gif,
    "without pixels": lambda rng, kind: ("png", _png_of(0, 0)),
    "too few pixels": lambda rng, kind: ("png", _png_of(40, 30, bytes(100))),
    "too large": _large,
}
UNUSUAL = {
    "animated": lambda rng, kind: (
        ("gif", "webp", "png")[number := rng.integers(3)],
        _encode(
            _noise(rng, 30, 40, 3),
            ("gif", "webp", "png")[number],
            save_all=True,
            append_images=[_noise(rng, 30, 40, 3)],
        ),
    ),
    "CMYK": lambda rng, kind: (
        "jpeg",
        _encode(_noise(rng, 30, 40, 3).convert("CMYK"), "jpeg"),
    ),
    "16 bits": lambda rng, kind: (
        "png",
        _encode(
            Image.fromarray(rng.integers(2**16, size=(30, 40), dtype="uint16")),
            "png",
        ),
    ),
    "float": lambda rng, kind: (
        "tiff",
        _encode(Image.fromarray(rng.random((30, 40), "float32")), "tiff"),
    ),
    "damaged color profile": lambda rng, kind: (
        "png",
        _encode(_noise(rng, 30, 40, 3), "png", icc_profile=rng.bytes(200)),
    ),
    "transparent palette": lambda rng, kind: (
        "png",
        _encode(
            _noise(rng, 30, 40, 3).quantize(16), "png", transparency=b"\0\x80"
        ),
    ),
    "one pixel": lambda rng, kind: (kind, _encode(_noise(rng, 1, 1, 3), kind)),
    "narrow": lambda rng, kind: (
        "png",
        _encode(_noise(rng, 2, 5000), "png"),
    ),
    "another suffix": lambda rng, kind: (
        kind,
        _encode(_noise(rng, 30, 40, 3), "png"),
    ),
    "with a tail": lambda rng, kind: (
        kind,
        _encode(_noise(rng, 30, 40, 3), kind) + b"more",
    ),
}
