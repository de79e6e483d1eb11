"""The photographs of the ablations and of the race: Caltech-101's aligned
faces, which a small network learns to draw within minutes of one core, and
Imagenette's churches, by which nothing was chosen."""

import pathlib
import zipfile

import numpy as np

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.files import whole_file

# File, class and name of the held-out split: 290 training photographs and 145
# held-out ones, 941 and 409.
SETS = {
    "faces": ("caltech101_128.zip", "Faces_easy", "test"),
    "churches": ("imagenette_64.zip", "church", "val"),
}
FEW = 50  # Training photographs, where there shall be few.


def choose(data, work, photographs="faces", few=False):
    """Copy the photographs, unless that is done.

    Args:
        data: folder of the files of `SETS`.
        work: folder of the copy.
        photographs: string. The name of one of `SETS`.
        few: bool. Whether to take `FEW` training photographs only.

    Returns:
        The path of a zip with the splits `"train"` and `"test"`.
    """
    path = work / ("few.zip" if few else f"{photographs}.zip")
    if path.exists():
        return path
    file, label, held_out = SETS[photographs]
    with (
        whole_file(path) as draft,
        zipfile.ZipFile(data / file) as source,
        zipfile.ZipFile(draft, "w") as chosen,
    ):
        for split, folder in (("train", "train"), ("test", held_out)):
            names = [
                name
                for name in sorted(source.namelist())
                if pathlib.PurePosixPath(name).parts[:2] == (folder, label)
            ]
            if few and split == "train":
                names = names[:: len(names) // FEW][:FEW]
            for name in names:
                entry = f"{split}/{label}/{pathlib.PurePosixPath(name).name}"
                chosen.writestr(entry, source.read(name))
    return path


def read(path, image_size):
    """The training photographs of a zip, as a `uint8` array."""
    source = ksd.data.open_data(path, image_size)
    return np.stack([source[i]["images"] for i in range(len(source))])
