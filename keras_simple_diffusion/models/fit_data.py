"""What `fit` and `evaluate` accept, and the errors when it does not fit."""

import grain
import keras
import numpy as np

from keras_simple_diffusion.generation.conditions import check_labels
from keras_simple_diffusion.utils.errors import InputError


def split_inputs(inputs, backbone):
    """Take a batch or a data set apart.

    Args:
        inputs: dict with `"images"` and, for a class-conditional backbone,
            `"labels"`, or the images alone.
        backbone: a `DiffusionBackbone`.

    Returns:
        A tuple of the images and a dict of the `"labels"`, empty for an
        unconditional backbone.

    Raises:
        InputError: if they do not fit the backbone.
    """
    if not isinstance(inputs, dict):
        inputs = {"images": inputs}
    _check_keys(inputs)
    images, labels = inputs["images"], inputs.get("labels")
    check_shape(images, backbone)
    if backbone.num_classes is None and labels is not None:
        raise InputError(
            "The backbone is unconditional, yet the data has labels. Leave "
            "'labels' out, or build the backbone with `num_classes`."
        )
    if backbone.num_classes is not None and labels is None:
        raise InputError(
            f"The backbone has {backbone.num_classes} classes, yet the data "
            "has no labels. Pass {'images': ..., 'labels': ...}, or build the "
            "backbone with num_classes=None."
        )
    if labels is not None and len(labels.shape) != 1:
        raise InputError(
            "Labels must be a vector of integers, one an image. Received: "
            f"labels of shape {tuple(labels.shape)}"
        )
    return images, {} if labels is None else {"labels": labels}


def check_shape(images, backbone):
    """Raise an `InputError` unless a batch has the network's shape."""
    if tuple(images.shape[1:]) != backbone.image_shape:
        raise InputError(
            f"The backbone takes images of shape {backbone.image_shape} "
            "(height, width, channels). Received: a batch of shape "
            f"{tuple(images.shape)}. Resize the images, or build the "
            f"backbone with image_shape={tuple(images.shape[1:])}."
        )


def check_arrays(inputs, backbone):
    """Check values that can only be read outside of a compiled step.

    Args:
        inputs: what `fit` received as `x`. Only NumPy arrays are looked at.
        backbone: a `DiffusionBackbone`.

    Raises:
        InputError: if images or labels are out of range.
    """
    if isinstance(inputs, dict):
        _check_keys(inputs)
        if isinstance(inputs.get("labels"), (list, tuple)):
            inputs = {**inputs, "labels": np.asarray(inputs["labels"])}
    else:
        inputs = {"images": inputs}
    if not all(isinstance(leaf, np.ndarray) for leaf in inputs.values()):
        return
    images, conditions = split_inputs(inputs, backbone)
    labels = conditions.get("labels")
    if labels is not None:
        if len(labels) != len(images):
            raise InputError(
                "There must be one label an image. Received: "
                f"{len(images)} images and {len(labels)} labels"
            )
        check_labels(labels, backbone.num_classes)
    check_images(images)


def check_images(images):
    """Raise an `InputError` unless a NumPy array has values of images."""
    if not len(images):
        return
    low, high = float(images.min()), float(images.max())
    limits = (0, 255)
    if np.issubdtype(images.dtype, np.floating):
        limits = (-1.001, 1.001)
    if not (limits[0] <= low and high <= limits[1]):
        raise InputError(
            "Images must be uint8 in [0, 255], or float in [-1, 1]. "
            f"Received: {images.dtype} in [{low:.4g}, {high:.4g}]. Divide "
            "by 127.5 and subtract 1, or pass uint8."
        )


def _check_keys(inputs):
    if "images" not in inputs or not set(inputs) <= {"images", "labels"}:
        raise InputError(
            "Training data must be images, or a dict with 'images' and, for a "
            "class-conditional model, 'labels'. Received: a dict with "
            f"{sorted(inputs)}"
        )


# What belongs to the images, as captions, as tokens or as embeddings.
_KINDS = (
    {"captions"},
    {"token_ids", "text_mask"},
    {"context", "context_mask"},
)


def with_tokens(data, encoder, portrait_flag):
    """Data for `fit` with token ids in the place of captions.

    Args:
        data: dict of arrays, or any iterable of batches that Keras takes.
        encoder: a `TextEncoder`.
        portrait_flag: bool. Whether the network takes a portrait flag.

    Returns:
        Data of the same kind, or a Grain dataset of batches.
    """

    def convert(batch):
        return _convert(batch, encoder, portrait_flag)

    if data is None:
        return None
    if isinstance(data, dict):
        converted = convert(data)
        if isinstance(data["images"], np.ndarray):
            check_images(data["images"])
        return converted
    # The first batch is converted at once: so the encoder is loaded, if it is
    # needed, before Keras compiles a step.
    if isinstance(data, keras.utils.PyDataset):
        convert(data[0])
        return _ConvertedPyDataset(data, convert)
    if isinstance(data, (tuple, np.ndarray)) or not hasattr(data, "__iter__"):
        raise _wrong_data(f"a {type(data).__name__}")
    batches = iter(data)
    first = convert(next(batches))
    if batches is data:  # A generator, which can be read once.
        return _generate(first, batches, convert)
    return _ConvertedBatches(data, convert)


def _generate(first, batches, convert):
    yield first
    for batch in batches:
        yield convert(batch)


def _convert(batch, encoder, portrait_flag):
    if isinstance(batch, (tuple, list)):
        first, *rest = batch
        return (_convert(first, encoder, portrait_flag), *rest)
    if not isinstance(batch, dict):
        raise _wrong_data(f"a {type(batch).__name__}")
    batch = dict(batch)
    kind = set(batch) - {"images", "portrait"}
    if "images" not in batch or kind not in _KINDS:
        raise _wrong_data(f"a dict with {sorted(batch)}")
    if ("portrait" in batch) != portrait_flag:
        raise InputError(
            "Data must have 'portrait', 1 for an image turned on its side, "
            "just if the network has `portrait_flag=True`. Received: "
            f"portrait_flag={portrait_flag} and data with {sorted(batch)}"
        )
    if "captions" in batch:
        captions = _to_list(batch.pop("captions"))
        if len(captions) != len(batch["images"]):
            raise InputError(
                "There must be one caption an image. Received: "
                f"{len(batch['images'])} images and {len(captions)} captions"
            )
        batch["token_ids"], batch["text_mask"] = encoder.tokenize(captions)
    return batch


def _to_list(captions):
    if isinstance(captions, (str, bytes)):
        raise _wrong_data("one caption")
    if isinstance(captions, (list, tuple)):
        return list(captions)
    return np.asarray(captions).tolist()  # TensorFlow's strings are bytes.


def _wrong_data(received):
    return InputError(
        "Training data must be a dict with 'images' and 'captions', a list of "
        "strings, or a data set of such batches; embeddings, 'context' and "
        "'context_mask', can take the place of captions. Received: "
        f"{received}"
    )


def _to_array(value):
    """A tensor of any backend as an array that belongs to nobody else."""
    if isinstance(value, np.ndarray):
        return value
    return np.array(np.asarray(value))


class _ConvertedPyDataset(keras.utils.PyDataset):
    def __init__(self, dataset, convert):
        super().__init__(
            dataset.workers,
            dataset.use_multiprocessing,
            dataset.max_queue_size,
        )
        self._dataset = dataset
        self._convert = convert

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        return self._convert(self._dataset[index])

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()


class _ConvertedBatches(grain.IterDataset):
    """Batches of any kind, read from the beginning in each epoch."""

    def __init__(self, batches, convert):
        super().__init__()
        self._batches = batches
        self._convert = convert

    def __iter__(self):
        return _ConvertedIterator(iter(self._batches), self._convert)


class _ConvertedIterator(grain.DatasetIterator):
    def __init__(self, iterator, convert):
        super().__init__()
        self._iterator = iterator
        self._convert = convert

    def __next__(self):
        return keras.tree.map_structure(
            _to_array, self._convert(next(self._iterator))
        )

    def get_state(self):
        raise NotImplementedError("The batches may be of any kind.")

    def set_state(self, state):
        raise NotImplementedError("The batches may be of any kind.")
