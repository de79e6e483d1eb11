"""Write the packaged photographs of vehicles from Caltech-101.

    python tools/write_vehicles.py --source ../shared/data/caltech101_128.zip

Reads the centre squares at 128 pixels (see CONTRIBUTING.md, Real images) and
writes four of the classes at 64 pixels, with the splits and names of the
source, as JPEG in a zip. Of the two large classes it takes the photographs with
the plainest surroundings: a small network learns them within minutes, and the
classes differ less in size. The same source and the Pillow of `constraints.txt`
give the same bytes.
"""

import argparse
import collections
import io
import pathlib
import zipfile

import numpy as np
from PIL import Image

from keras_simple_diffusion.data.loading import VEHICLES
from keras_simple_diffusion.utils.files import whole_file

SIZE = 64
MOST = 340  # Photographs of a class, three times the smallest.
QUALITY = 95  # Root mean square error of 1.7 levels; 2.5 kB an image.
# Classes, and the numbers of images that are left out: they show people.
CLASSES = {
    "Motorbikes": (
        *(71, 81, 97, 99, 150, 156, 161, 183, 278, 304, 311, 329, 357, 574),
        *(596, 630, 646, 651, 693, 748),
    ),
    "airplanes": (8, 41, 46, 50, 73, 98),
    "car_side": (),
    "ketch": (),
}


def shows_no_people(name):
    """Test if an image of the source may be used.

    Args:
        name: string, `SPLIT/CLASS/image_NUMBER.jpg`.

    Returns:
        bool.
    """
    _, kind, file = name.split("/")
    number = int(file.removesuffix(".jpg").removeprefix("image_"))
    return kind in CLASSES and number not in CLASSES[kind]


def shrink(content):
    """Resize an image of the source.

    Args:
        content: bytes of an image file.

    Returns:
        A `PIL.Image.Image` of 64 x 64 pixels.
    """
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB").resize(
            (SIZE, SIZE), Image.Resampling.LANCZOS
        )


def roughness(image):
    """Measure how busy the surroundings of a vehicle are.

    Args:
        image: a `PIL.Image.Image`.

    Returns:
        float. Mean difference of neighboring gray levels above the vehicle (14
        rows) and below it (5 rows).
    """
    gray = np.asarray(image.convert("L"), "float64")
    strips = (gray[:14], gray[-5:])
    return np.mean(
        [abs(np.diff(strip, axis=i)).mean() for strip in strips for i in (0, 1)]
    )


def choose(photographs):
    """Choose and resize images of the source.

    Args:
        photographs: `zipfile.ZipFile` of the source.

    Returns:
        A dict from names in the source to `PIL.Image.Image`s, in order.
    """
    images = {
        name: shrink(photographs.read(name))
        for name in filter(shows_no_people, photographs.namelist())
    }
    ranked = collections.defaultdict(list)
    for name in sorted(images, key=lambda name: roughness(images[name])):
        ranked[name.split("/")[1]].append(name)
    chosen = [name for names in ranked.values() for name in names[:MOST]]
    return {name: images[name] for name in sorted(chosen)}


def encode(image):
    """Encode an image as JPEG, with its colors at full resolution.

    Args:
        image: a `PIL.Image.Image`.

    Returns:
        bytes.
    """
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return file.getvalue()


def write(source, target):
    """Write the zip of the package.

    Args:
        source: path of `caltech101_128.zip`.
        target: path of the zip to write.
    """
    with zipfile.ZipFile(source) as photographs:
        images = choose(photographs)
    with whole_file(target) as draft, zipfile.ZipFile(draft, "w") as vehicles:
        for name, image in images.items():
            # A fixed date and system: the bytes depend on the images alone.
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            vehicles.writestr(entry, encode(image))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    write(parser.parse_args().source, VEHICLES)
