"""The photographs of the ablations and of the race: Caltech-101's aligned
faces, which a small network learns to draw within minutes of one core."""

import pathlib
import zipfile

import numpy as np

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.files import whole_file

CLASS = "Faces_easy"  # 290 training photographs and 145 held-out ones.
FEW = 50  # Training photographs, where there shall be few.


def choose(data, work, few=False):
    """Copy the faces, unless that is done.

    Args:
        data: folder of `caltech101_128.zip`.
        work: folder of the copy.
        few: bool. Whether to take `FEW` training photographs only.

    Returns:
        The path of a zip.
    """
    path = work / ("few.zip" if few else "faces.zip")
    if path.exists():
        return path
    with (
        whole_file(path) as draft,
        zipfile.ZipFile(data / "caltech101_128.zip") as source,
        zipfile.ZipFile(draft, "w") as chosen,
    ):
        for split in ("train", "test"):
            names = [
                name
                for name in sorted(source.namelist())
                if pathlib.PurePosixPath(name).parts[:2] == (split, CLASS)
            ]
            if few and split == "train":
                names = names[:: len(names) // FEW][:FEW]
            for name in names:
                chosen.writestr(name, source.read(name))
    return path


def read(path, image_size):
    """The training photographs of a zip, as a `uint8` array."""
    source = ksd.data.open_data(path, image_size)
    return np.stack([source[i]["images"] for i in range(len(source))])
