"""Write the photographs on which `photos_64` and `photos_128` are trained: 16
classes of Caltech-101 with at least 80 images each, without people.

    python benchmarks/shipped_photographs.py \
        --source ../shared/data/caltech101_128.zip --output photos_64.zip

`--per-class 10` writes ten training photographs of each class, which `evaluate`
measures as the images of a perfect model.
"""

import argparse
import io
import pathlib
import random
import zipfile

from PIL import Image

from keras_simple_diffusion.utils.files import whole_file

CLASSES = (
    "Leopards Motorbikes airplanes bonsai butterfly car_side chandelier "
    "grand_piano hawksbill helicopter kangaroo ketch laptop starfish sunflower "
    "watch"
).split()


def write(source, output, size=64, per_class=None):
    """Resize the photographs of the classes.

    Args:
        source: path of `caltech101_128.zip`.
        output: path of the zip to write.
        size: int. Width and height in pixels. Defaults to `64`.
        per_class: int. Number of training photographs of each class to choose
            at random. Defaults to `None`, all photographs.
    """
    with (
        zipfile.ZipFile(source) as photographs,
        whole_file(output) as draft,
        zipfile.ZipFile(draft, "w") as chosen,
    ):
        for name in choose(photographs.namelist(), per_class):
            with Image.open(io.BytesIO(photographs.read(name))) as image:
                image = image.convert("RGB").resize(
                    (size, size), Image.Resampling.LANCZOS
                )
            file = io.BytesIO()
            image.save(file, "JPEG", quality=95, subsampling=0)
            chosen.writestr(name, file.getvalue())


def choose(names, per_class=None):
    """Choose the photographs of the classes by their paths."""
    names = sorted(
        name
        for name in names
        if name.endswith(".jpg") and name.split("/")[1] in CLASSES
    )
    if per_class is None:
        return names
    generator = random.Random(0)
    return [
        name
        for label in CLASSES
        for name in generator.sample(
            [name for name in names if name.startswith(f"train/{label}/")],
            per_class,
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--per-class", type=int)
    args = parser.parse_args()
    write(args.source, args.output, args.size, args.per_class)
