"""Classes of images from files beside them, as WebDataset has them."""

import posixpath
import re

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import decode_text
from keras_simple_diffusion.utils.user_text import printable

SUFFIX = ".cls"
_NUMBER = re.compile("[0-9]{1,6}")


def read_classes(container, images):
    """Read the classes of images, the numbers or names in files beside them.

    Args:
        container: a `Container`.
        images: list of the images' names, such as `"1.png"`; the class of this
            one is in `"1.cls"`.

    Returns:
        A tuple of a dict from the images to numbers of classes and a list of
        the names of the classes, numbers if they have no other; both are empty
        if there are no such files.

    Raises:
        InputError: if some images have such a file, and others have none.
    """
    files = {name: posixpath.splitext(name)[0] + SUFFIX for name in images}
    found = [name for name in images if files[name] in container.sizes]
    if not found:
        return {}, []
    if len(found) < len(images):
        missing = printable(min(set(images) - set(found)))
        raise InputError(
            f"'{container.path}' has classes in {SUFFIX} files, but none for "
            f"'{missing}'."
        )
    texts = {}
    for name in images:
        where = f"'{printable(files[name])}' of '{container.path}'"
        text = decode_text(container.read(files[name]), where).strip()
        if not text:
            raise InputError(f"{where} is empty. Expected a class.")
        texts[name] = text
    if all(map(_NUMBER.fullmatch, texts.values())):
        labels = {name: int(text) for name, text in texts.items()}
        return labels, [str(i) for i in range(max(labels.values()) + 1)]
    names = sorted(set(texts.values()))
    numbers = {name: number for number, name in enumerate(names)}
    labels = {name: numbers[text] for name, text in texts.items()}
    return labels, list(map(printable, names))
