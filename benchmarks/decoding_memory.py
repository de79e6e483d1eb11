"""Memory that decoding takes, in bytes for each pixel of an image.

    python benchmarks/decoding_memory.py

Each mode is measured in a process of its own, as the growth of its peak over
that after decoding a small image. Linux only.
"""

import argparse
import io
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
from PIL import ImageCms

from keras_simple_diffusion.data import Decoder

SIZE = 4096
# Name, Pillow's mode or NumPy's type, and format.
KINDS = {
    "gray": ("L", "PNG"),
    "color": ("RGB", "PNG"),
    "color with a profile": ("RGB", "PNG"),
    "palette": ("P", "PNG"),
    "inks": ("CMYK", "TIFF"),
    "transparent": ("RGBA", "PNG"),
    "16 bits": ("uint16", "PNG"),
    "32 bits": ("int32", "TIFF"),
    "floating point": ("float32", "TIFF"),
}


def encode(kind, size):
    mode, suffix = KINDS[kind]
    options = {"compression": "tiff_lzw"} if suffix == "TIFF" else {}
    if kind == "color with a profile":
        profile = ImageCms.createProfile("sRGB")
        options["icc_profile"] = ImageCms.ImageCmsProfile(profile).tobytes()
    if mode[-1].isdigit():
        image = Image.fromarray(np.zeros((size, size), mode))
    else:
        image = Image.new(mode, (size, size))
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def peak():
    """Return the largest memory since the last call, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    kib = status.partition("VmHWM:")[2].split()[0]
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(kib)


def measure(kind):
    decoder, content = Decoder(64), encode(kind, SIZE)
    decoder(encode(kind, 64))
    peak()
    before = peak()
    decoder(content)
    return (peak() - before) / SIZE**2


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="Only one, here.")
    kind = parser.parse_args().kind
    if kind is not None:
        print(f"{kind:22}{measure(kind):5.1f} bytes a pixel")
        return
    for kind in KINDS:
        command = [sys.executable, __file__, "--kind", kind]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
