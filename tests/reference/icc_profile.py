"""Color profiles of three primaries and a gamma, from their definitions.

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
    """Return an ICC profile as bytes: its header, table of tags, and tags."""

    def fixed(numbers):
        return b"".join(
            struct.pack(">i", round(float(n) * 65536)) for n in numbers
        )

    def xyz(numbers):
        return b"XYZ \0\0\0\0" + fixed(numbers)

    curve = (
        b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    )
    name = b"test\0"
    text = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    matrix = to_d50(primaries).T
    tags = {b"desc": text, b"wtpt": xyz(D50), b"cprt": b"text\0\0\0\0none"}
    for color, column in zip(b"rgb", matrix, strict=True):
        tags[bytes([color]) + b"XYZ"] = xyz(column)
        tags[bytes([color]) + b"TRC"] = curve
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        offset = 128 + 4 + 12 * len(tags) + len(data)
        table += tag + struct.pack(">II", offset, len(content))
        data += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(data)
    header = struct.pack(">I", size) + bytes(4) + b"\2\x20\0\0mntrRGB XYZ "
    header += bytes(12) + b"acsp" + bytes(28) + fixed(D50)
    return header.ljust(128, b"\0") + table + data
