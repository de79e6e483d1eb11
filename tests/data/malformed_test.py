"""300 malformed and unusual files, in a folder and in a zip."""

import json
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.any_backend
SUFFIXES = ("jpeg", "png", "gif", "webp", "bmp", "tiff")
MAX_MEMORY = 512 * 2**20  # Bytes that reading all of them may take at once.


def bad_files(encoded, bomb):
    """Files that cannot be read, by kind."""
    return {
        "cut": lambda i, suffix: encoded[suffix][: 40 + 20 * i],
        "empty": lambda i, suffix: b"",
        "text": lambda i, suffix: b"<html>not found</html>" * i,
        "zeros": lambda i, suffix: bytes(1000 + i),
        "head": lambda i, suffix: bytes(8) + encoded[suffix][8:],
        "pdf": lambda i, suffix: b"%PDF-1.7\n" + encoded[suffix],
        "bomb": lambda i, suffix: bomb,
    }


def good_files(encoded, encode, image):
    """Files that are unusual, but can be read."""
    frames = {"save_all": True, "append_images": [image, image]}
    whole = np.asarray(image)
    wide = encode(np.zeros((4, 20_000), "uint8"))
    return {
        "wrong_suffix": lambda i, suffix: encoded[SUFFIXES[i % 5 - 1]],
        "cmyk": lambda i, suffix: encode(image.convert("CMYK"), "jpeg"),
        "animated": lambda i, suffix: encode(image, "gif", **frames),
        "wide": lambda i, suffix: wide,
        "deep": lambda i, suffix: encode(np.uint16(whole[..., 0]) * 256),
        "tail": lambda i, suffix: encoded[suffix] + b"more",
    }


@pytest.fixture(scope="module")
def malformed(tmp_path_factory, encode, image):
    """A folder: 140 bad files, 60 good ones, and 100 that were mutated."""
    root = tmp_path_factory.mktemp("malformed") / "images"
    root.mkdir()
    pixels = Image.fromarray(image(0, (48, 64, 3)))
    encoded = {suffix: encode(pixels, suffix) for suffix in SUFFIXES}
    bomb = bytearray(encode(np.zeros((1, 1), "uint8"), "bmp"))
    bomb[18:26] = (60_000).to_bytes(4, "little") * 2  # Width and height.
    for kinds, count in (
        (bad_files(encoded, bytes(bomb)), 20),
        (good_files(encoded, encode, pixels), 10),
    ):
        for kind, make in kinds.items():
            for i in range(count):
                suffix = SUFFIXES[i % len(SUFFIXES)]
                name = f"{i * 20 // count:02}_{kind}.{suffix}"
                (root / name).write_bytes(make(i, suffix))
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {
        "jpeg": encode(pixels, "jpeg", exif=exif, progressive=True),
        "png": encode(pixels, "png", exif=exif),
        "tiff": encode(pixels, "tiff", compression="tiff_lzw"),
        "avif": encode(pixels, "avif"),
        "jp2": encode(pixels, "jpeg2000"),
    }
    contents = list((encoded | more).items())
    rng = np.random.default_rng(0)
    for i in range(100):
        suffix, content = contents[i % len(contents)]
        content = bytearray(content)
        # The first bytes hold sizes, offsets and counts.
        end = min(len(content), 200) if i % 2 else len(content)
        for place in rng.integers(0, end, rng.integers(1, 9)):
            content[place] = rng.integers(256)
        (root / f"{i % 20:02}_mutated_{i}.{suffix}").write_bytes(content)
    return root


def read_everything(path):
    """Read and examine each image; print which ones were broken."""
    import warnings

    import keras_simple_diffusion as ksd
    from keras_simple_diffusion.data.formats import UNREADABLE
    from keras_simple_diffusion.data.inspection import examine

    warnings.simplefilter("ignore")
    source = ksd.data.open_data(path, 16)
    source[0]  # Whatever is allocated once.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    broken = []
    for index in range(len(source)):
        try:
            images = source.decode(index)["images"]
            assert images.shape == (16, 16, 3) and images.dtype == "uint8"
        except UNREADABLE:
            broken.append(source.name(index))
        assert source[index]["images"].shape == (16, 16, 3)
    assert set(source.broken) == set(broken)
    examined = [each.name for each in examine(source) if each.broken]
    batch = next(iter(ksd.data.training_batches(source, 64)))
    assert batch["images"].shape == (64, 16, 16, 3)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = (after - before) * (1 if sys.platform == "darwin" else 1024)
    names = [source.name(index) for index in range(len(source))]
    print(json.dumps([names, broken, examined, memory]))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_300_malformed_files(kind, malformed):
    path = malformed
    if kind == "zip":
        path = malformed.with_suffix(".zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for each in malformed.iterdir():
                file.write(each, each.name)
    # A process of its own, which may crash, hang or grow.
    done = subprocess.run(
        [sys.executable, __file__, str(path)],
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
        text=True,
    )
    names, broken, examined, memory = json.loads(done.stdout.splitlines()[-1])
    assert len(names) == 300
    assert memory < MAX_MEMORY
    bad = {name for name in names if name.split("_")[1].split(".")[0] in BAD}
    mutated = {name for name in names if "mutated" in name}
    assert len(bad) == 140 and len(mutated) == 100
    assert bad == set(broken) - mutated
    # Both kinds of mutation are there.
    assert 20 < len(mutated & set(broken)) < 80
    # What an examination of the first frame finds is what training finds.
    assert set(examined) - mutated == bad


BAD = set(bad_files({}, b""))

if __name__ == "__main__":
    read_everything(sys.argv[1])
