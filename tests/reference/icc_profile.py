"""Color profiles, made from their definitions.

ICC.1:2022 defines the file, and the white point D50 that its colors relate to.
"""

import struct

import numpy as np

PRIMARIES = {
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "display_p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe_rgb": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
D50 = np.array([0.9642, 1.0, 0.8249])
D65 = np.array([0.95047, 1.0, 1.08883])
BRADFORD = np.array(
    [
        [0.8951, 0.2664, -0.1614],
        [-0.7502, 1.7135, 0.0367],
        [0.0389, -0.0685, 1.0296],
    ]
)


def to_d50(primaries):
    """Return the matrix from linear RGB to XYZ, adapted from D65 to D50."""
    x, y = np.array(primaries).T
    columns = np.array([x / y, np.ones(3), (1 - x - y) / y])
    columns = columns * np.linalg.solve(columns, D65)
    ratio = (BRADFORD @ D50) / (BRADFORD @ D65)
    return np.linalg.inv(BRADFORD) @ np.diag(ratio) @ BRADFORD @ columns


def make_profile(primaries, gamma):
    """Return the ICC profile of three primaries and a gamma, as bytes."""
    matrix = to_d50(primaries).T
    tags = {}
    for color, column in zip(b"rgb", matrix, strict=True):
        tags[bytes([color]) + b"XYZ"] = _xyz(column)
        tags[bytes([color]) + b"TRC"] = _curve(gamma)
    return _assemble(b"mntrRGB XYZ ", tags)


def make_gray_profile(gamma):
    """Return the ICC profile of gray values with a gamma, as bytes."""
    return _assemble(b"mntrGRAYXYZ ", {b"kTRC": _curve(gamma)})


def make_ink_profile():
    """Return an ICC profile of four inks, as bytes.

    Each of the first three inks takes a third of the lightness, L* of CIELAB,
    and black takes all of it. No ink is colored.
    """
    ramp = bytes(range(256))
    table = b""  # Lightness at the corners; the first ink varies slowest.
    for corner in range(16):
        *colors, black = (corner >> i & 1 for i in (3, 2, 1, 0))
        lightness = (1 - black) * (1 - sum(colors) / 3)
        table += bytes([round(255 * lightness), 128, 128])
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += _fixed(np.eye(3).ravel()) + ramp * 4 + table + ramp * 3
    return _assemble(b"prtrCMYKLab ", {b"A2B0": lut})


def _fixed(numbers):
    return b"".join(struct.pack(">i", round(float(n) * 65536)) for n in numbers)


def _xyz(numbers):
    return b"XYZ \0\0\0\0" + _fixed(numbers)


def _curve(gamma):
    content = struct.pack(">IH", 1, round(gamma * 256))
    return b"curv\0\0\0\0" + content + b"\0\0"


def _assemble(kind, tags):
    """Join the header of a profile, its table of tags, and the tags."""
    name = b"test\0"
    text = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {
        **{b"desc": text, b"wtpt": _xyz(D50), b"cprt": b"text\0\0\0\0none"},
        **tags,
    }
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        offset = 128 + 4 + 12 * len(tags) + len(data)
        table += tag + struct.pack(">II", offset, len(content))
        data += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(data)
    header = struct.pack(">I", size) + bytes(4) + b"\2\x20\0\0" + kind
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(D50)
    return header.ljust(128, b"\0") + table + data
