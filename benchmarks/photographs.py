"""The photographs of the ablations and of the race: three classes, of
Caltech-101 those with most pictures, which a small network tells apart soon."""

import collections
import pathlib
import zipfile

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.utils.files import whole_file

CLASSES = ("Faces_easy", "Motorbikes", "airplanes")
FEW = 50  # Training pictures a class, where there shall be few.


def choose(data, work, few=False):
    """Copy the pictures of `CLASSES`, unless that is done.

    Args:
        data: folder of `caltech101_128.zip`.
        work: folder of the copy.
        few: bool. Whether to take `FEW` training pictures a class only.

    Returns:
        The path of a zip.
    """
    path = work / ("few.zip" if few else "pictures.zip")
    if path.exists():
        return path
    counts = collections.Counter()
    with (
        whole_file(path) as draft,
        zipfile.ZipFile(data / "caltech101_128.zip") as source,
        zipfile.ZipFile(draft, "w") as chosen,
    ):
        for name in sorted(source.namelist()):
            folder = pathlib.PurePosixPath(name).parent
            if folder.name not in CLASSES:
                continue
            counts[folder] += 1
            is_test = folder.parent.name == "test"
            if is_test or not few or counts[folder] <= FEW:
                chosen.writestr(name, source.read(name))
    return path


def read(path, image_size):
    """The training pictures of a zip: arrays of pictures, and of labels."""
    source = ksd.data.open_data(path, image_size)
    columns = stack([source[i] for i in range(len(source))])
    return columns["images"], columns["labels"]
