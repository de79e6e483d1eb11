"""Data on the way into `fit` and `evaluate`: checks and conversion.

Arrays are checked completely, of a dataset the first batches. `ValueCheck`
finds bad values in the others.
"""

import contextlib
import itertools
import warnings

import grain
import keras
import numpy as np

from keras_simple_diffusion.backend.choice import check_training
from keras_simple_diffusion.backend.keras_internals import is_rematerialized
from keras_simple_diffusion.backend.keras_internals import layers_within
from keras_simple_diffusion.backend.native import reads_tensorflow_datasets
from keras_simple_diffusion.backend.sizes import dataset_of_sizes
from keras_simple_diffusion.distribution.batches import check_batch_size
from keras_simple_diffusion.distribution.batches import data_shard
from keras_simple_diffusion.generation.values import check_images
from keras_simple_diffusion.generation.values import check_labels
from keras_simple_diffusion.generation.values import no_images
from keras_simple_diffusion.generation.values import warn_of_labels_from_one
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.errors import check_integers
from keras_simple_diffusion.utils.errors import check_number

# Conditions of images with captions: as texts, as tokens or as embeddings.
_TEXT_KINDS = (
    {"captions"},
    {"token_ids", "text_mask"},
    {"context", "context_mask"},
)

# Numbers that Keras's methods take, `None` if not given.
_COUNTS = (
    "batch_size",
    "steps",
    "steps_per_epoch",
    "validation_batch_size",
    "validation_steps",
)

# Number of batches of a dataset that are checked before training.
_NUM_CHECKED = 3

# Batches that a `grain.MapDataset` is read ahead. Grain's default is 500
# elements, which are batches here, and may fill the memory.
_BATCHES_AHEAD = 16


def check(data, check_batch):
    """Check data for `fit`.

    Args:
        data: dict of arrays, images alone, or a dataset of such batches:
            `tf.data`, Grain, `keras.utils.PyDataset`, a torch `DataLoader` or
            another iterable.
        check_batch: function of a batch that returns it, checked.

    Returns:
        Data that Keras accepts.

    Raises:
        InputError: if the data do not fit the model.
    """
    if data is None or _is_checked(data):
        return data
    if _is_arrays(data):
        return check_batch(data)
    first, data = _peek(data)
    for batch in first:
        _in_tuple(check_batch)(batch)
    if (
        isinstance(data, keras.utils.PyDataset)
        or isinstance(data, grain.IterDataset)
        or reads_tensorflow_datasets(data)
    ):
        return data
    # Keras takes no dict of a DataLoader.
    return _converted(data, _in_tuple(lambda batch: batch))


def for_sizes(data):
    """Let Keras read batches whose images differ in size.

    Args:
        data: checked data for Keras, or `None`.

    Returns:
        Data for Keras.
    """
    return dataset_of_sizes(data) if getattr(data, "has_sizes", False) else data


def convert(data, convert_batch):
    """Check data for `fit`, and convert each batch.

    Args:
        data: see `check`.
        convert_batch: function of a batch that returns one for the model.

    Returns:
        Arrays, or a dataset that Keras accepts.

    Raises:
        InputError: if the data do not fit the model.
    """
    if data is None or isinstance(data, (_PyDataset, _Dataset)):
        return data
    if _is_arrays(data):
        _check_batch_images(data)
        return convert_batch(data)
    convert_batch = _in_tuple(convert_batch)
    first, data = _peek(data)
    for batch in first:
        _check_batch_images(batch)
        convert_batch(batch)  # It loads the encoder before Keras compiles.
    if isinstance(data, keras.utils.PyDataset):
        return _PyDataset(data, convert_batch)
    return _converted(data, convert_batch)


def refuse(**arguments):
    """Raise an `InputError` for arguments of Keras that have no meaning here.

    With a backend that only draws, no argument has.

    Args:
        **arguments: arguments of `keras.Model.fit`, `None` if not given.
    """
    check_training()
    for name, value in arguments.items():
        if value is not None:
            raise InputError(
                f"`{name}` is not supported. Labels and captions are part of "
                "`x`, a dict such as {'images': images, 'labels': labels}, and "
                "all images weigh the same. Received: "
                f"{name} of type {type(value).__name__}"
            )


def _check_callbacks(callbacks):
    """Check that callbacks are those of Keras, and work here."""
    kinds = keras.callbacks.Callback, keras.callbacks.CallbackList
    for callback in callbacks:
        if not isinstance(callback, kinds):
            raise InputError(
                "`callbacks` must be a list of `keras.callbacks.Callback`s. "
                f"Received: {str(callback)[:100]} in it"
            )
    if any(isinstance(c, keras.callbacks.SwapEMAWeights) for c in callbacks):
        raise InputError(
            "`SwapEMAWeights` is for averages that Keras's optimizers keep. "
            "Those of this model are kept by `compile(ema_decay=...)`; with "
            "`compile(evaluate_averages=True)` the validation measures them."
        )


def check_compile(model, steps_per_execution, unsupported):
    """Raise an `InputError` for what `compile` does not support.

    Args:
        model: the `DenoisingTrainer` to compile.
        steps_per_execution: int.
        unsupported: dict of the arguments of `keras.Model.compile` that it does
            not have, `None` if not given.
    """
    if any(map(is_rematerialized, (model, *layers_within(model)))):
        raise InputError(
            "A model within `keras.RematScope` cannot be trained, as it would "
            "draw other noise for the gradient than for the loss. Make it and "
            "its network outside, with `rematerialize=` of the network."
        )
    check_integer("steps_per_execution", steps_per_execution)
    for name, value in unsupported.items():
        if value is not None:
            raise InputError(
                f"`compile` does not support `{name}`. The loss is an argument "
                "of the model, such as `DiffusionModel(backbone, "
                'loss="epsilon")`, and `evaluate` measures it. Received: '
                f"{name}={str(value)[:100]}"
            )


def check_is_given(data):
    """Raise an `InputError` if there are no data to train or evaluate on."""
    if data is None:
        raise InputError(
            "Pass the images as `x`, such as {'images': images, 'labels': "
            "labels}. Received: x=None"
        )


def check_rows(data, batch_size=None):
    """Check that batches of arrays can be split evenly over the devices.

    Args:
        data: data for Keras, or `None`. Batches of datasets are not looked at.
        batch_size: int. Rows of a batch in this process. Defaults to all, a
            single batch.

    Raises:
        InputError: if one of the batches cannot be split.
    """
    if not has_rows(data):
        return
    num_rows = len(data["images"] if isinstance(data, dict) else data)
    batch_size = min(batch_size or num_rows, num_rows)
    for rows in {batch_size, num_rows % batch_size} - {0}:
        _, num_shares = data_shard()
        check_batch_size(num_shares * rows)


def has_rows(data):
    """Tell if data are arrays with one row an image, not batches."""
    return isinstance(data, dict) or hasattr(data, "shape")


def is_shuffled_by_keras(data):
    """Tell if `fit` can shuffle data, which are no dataset."""
    return has_rows(data) or isinstance(data, keras.utils.PyDataset)


def check_options(options):
    """Check the numbers and callbacks among arguments of `keras.Model.fit`.

    Args:
        options: dict of arguments of `fit` or `evaluate` by name.

    Raises:
        InputError: if one of them is not valid.
    """
    for name in ("epochs", "initial_epoch"):
        check_integer(name, options.get(name, 0), minimum=0)
    for name in _COUNTS:
        check_integer(name, options.get(name), optional=True)
    freq = options.get("validation_freq", 1)
    if isinstance(freq, (list, tuple, set)):
        check_integers("validation_freq", list(freq))
    else:
        check_integer("validation_freq", freq)
    split = options.get("validation_split") or 0.0
    check_number("validation_split", split, at_least=0, below=1)
    _check_callbacks(keras.tree.flatten(options.get("callbacks") or []))


# === Images and labels ===


def check_labelled(inputs, backbone):
    """Check images with labels, a batch or all of them.

    Args:
        inputs: dict with `"images"` and, for a class-conditional backbone,
            `"labels"`, or the images alone.
        backbone: a `DiffusionBackbone`.

    Returns:
        `inputs`, lists of labels as arrays.

    Raises:
        InputError: if images or labels do not fit the backbone.
    """
    if isinstance(inputs, dict):
        check_keys(inputs)
        if isinstance(inputs.get("labels"), (list, tuple)):
            inputs = {**inputs, "labels": np.asarray(inputs["labels"])}
        if isinstance(inputs["images"], (list, tuple)):
            inputs = {**inputs, "images": _stack(inputs["images"])}
    images, conditions = split_inputs(inputs, backbone)
    check_images(_to_numpy(images))
    if "labels" in conditions:
        labels = _to_numpy(conditions["labels"])
        if len(labels) != len(images):
            raise InputError(
                "There must be one label per image. Received: "
                f"{len(images)} images and {len(labels)} labels"
            )
        check_labels(labels, backbone.num_classes)
        warn_of_labels_from_one(labels, backbone.num_classes)
    return inputs


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
    check_keys(inputs)
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
            "Labels must be a vector of integers, one per image. Received: "
            f"labels of shape {tuple(labels.shape)}"
        )
    return images, {} if labels is None else {"labels": labels}


def check_keys(inputs):
    """Raise an `InputError` unless a dict has images, and labels at most."""
    if "images" not in inputs or not set(inputs) <= {"images", "labels"}:
        raise InputError(
            "Training data must be images, or a dict with 'images' and, for a "
            "class-conditional model, 'labels'. Received: a dict with "
            f"{sorted(inputs)}"
        )


def _stack(images):
    """Make one array of a list of images of one size."""
    arrays = [_to_numpy(image) for image in images]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1:
        raise InputError(
            "A list of images must hold arrays of one shape. Received: the "
            f"shapes {shapes[:5]}"
        )
    return np.stack(arrays)


def check_shape(images, backbone):
    """Raise an `InputError` unless a batch has the network's shape."""
    shape = tuple(images.shape[1:])
    if shape == backbone.image_shape:
        return
    if len(shape) == 3 and None not in shape:
        try:
            backbone.check_image_size(*shape[:2])
            if shape[2] == backbone.image_shape[2]:
                return
        except InputError:
            pass
    remedy = "Pass an array of four axes."
    if len(shape) == 2:
        remedy = "Gray images need an axis of one channel: images[..., None]."
    elif len(shape) == 3:
        remedy = (
            "Resize the images, or build the backbone with "
            f"image_shape={shape}."
        )
    raise InputError(
        f"The backbone takes images of shape {backbone.image_shape} (height, "
        "width, channels). Received: a batch of shape "
        f"{tuple(images.shape)}. {remedy}"
    )


# === Captions ===


def tokenize_batch(batch, encoder, portrait_flag):
    """Replace the captions of a batch by token ids.

    Args:
        batch: dict with `"images"` and `"captions"`, or what can take the
            place of captions; and `"portrait"` with `portrait_flag`.
        encoder: a `TextEncoder`.
        portrait_flag: bool. Whether the network takes a portrait flag.

    Returns:
        A dict.

    Raises:
        InputError: if the batch is not of that kind.
    """
    if not isinstance(batch, dict):
        raise _wrong_data(f"a {type(batch).__name__}")
    batch = dict(batch)
    kind = set(batch) - {"images", "portrait"}
    if "images" not in batch or kind not in _TEXT_KINDS:
        raise _wrong_data(f"a dict with {sorted(batch)}")
    if ("portrait" in batch) != portrait_flag:
        raise InputError(
            "Data must have 'portrait', 1 for an image turned on its side, "
            "exactly when the network has `portrait_flag=True`. Received: "
            f"portrait_flag={portrait_flag} and data with {sorted(batch)}"
        )
    if "captions" in batch:
        captions = _to_list(batch.pop("captions"))
        if len(captions) != len(batch["images"]):
            raise InputError(
                "There must be one caption per image. Received: "
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


# === Kinds of data ===


def _is_checked(data):
    """Tell if data need no check, such as `data.Batches`."""
    return isinstance(data, _Dataset) or getattr(data, "is_checked", False)


def _is_arrays(data):
    if isinstance(data, tuple):
        raise InputError(
            "The data must be images, or a dict with 'images' and their labels "
            "or captions, not a tuple. Received: a tuple of "
            f"{len(data)}. Pass {{'images': images, 'labels': labels}}."
        )
    return has_rows(data)


def _peek(data):
    """Return the first batches of a dataset, and the whole dataset again."""
    if isinstance(data, grain.MapDataset):
        ahead = grain.ReadOptions(prefetch_buffer_size=_BATCHES_AHEAD)
        data = data.to_iter_dataset(ahead)
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        indices = range(_NUM_CHECKED if count is None else count)
        first = [data[index] for index in indices[:_NUM_CHECKED]]
    elif hasattr(data, "__iter__"):
        batches = iter(data)
        first = list(itertools.islice(batches, _NUM_CHECKED))
        if batches is data:  # A generator, which can be read once.
            data = itertools.chain(first, batches)
    else:
        raise InputError(
            "The data must be arrays or a dataset of batches. Received: a "
            f"{type(data).__name__}"
        )
    if not first:
        raise no_images()
    return first, data


@contextlib.contextmanager
def ending_epochs(datasets, steps):
    """Context in which an epoch may end with the data, without a warning.

    Keras warns whenever data of unknown length have ended. That is how each
    epoch ends of a dataset that can be read again and has no number of steps.

    Args:
        datasets: list of data for Keras, or `None`s.
        steps: list of their numbers of steps, or `None`s.
    """
    if any(hasattr(data, "__next__") for data in datasets) or any(steps):
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        yield


def _in_tuple(function):
    """Let a function of a batch take a tuple `(batch,)` as well."""

    def call(batch):
        if not isinstance(batch, (tuple, list)):
            return function(batch)
        first, *rest = batch
        if any(each is not None for each in rest):
            raise InputError(
                "Batches must be images, or dicts with 'images' and their "
                "labels or captions, not tuples. Received: a tuple of "
                f"{len(batch)}. Map them to {{'images': x, 'labels': y}}."
            )
        return function(first)

    return call


def _check_batch_images(batch):
    def check_values(batch):
        if isinstance(batch, dict) and "images" in batch:
            check_images(_to_numpy(batch["images"]))

    _in_tuple(check_values)(batch)


def _to_numpy(value):
    """Convert a tensor of any library, on any device, to an array."""
    if hasattr(value, "detach"):  # A PyTorch tensor may be on a GPU.
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def _to_own_array(value):
    """Convert a tensor to an array with its own memory."""
    array = _to_numpy(value)
    return array if array is value else array.copy()


def _converted(data, convert_batch):
    if iter(data) is data:
        return ((each,) for each in _Iterator(data, convert_batch))
    return _Dataset(data, convert_batch)


class _PyDataset(keras.utils.PyDataset):
    def __init__(self, dataset, convert_batch):
        super().__init__(
            dataset.workers,
            dataset.use_multiprocessing,
            dataset.max_queue_size,
        )
        self._dataset = dataset
        self._convert_batch = convert_batch

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        return self._convert_batch(self._dataset[index])

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()


class _Dataset(grain.IterDataset):
    """Batches of any kind, read from the beginning in each epoch."""

    def __init__(self, batches, convert_batch):
        super().__init__()
        self._batches = batches
        self._convert_batch = convert_batch
        self.has_sizes = getattr(batches, "has_sizes", False)

    def __iter__(self):
        return _Iterator(iter(self._batches), self._convert_batch)


class _Iterator(grain.DatasetIterator):
    def __init__(self, iterator, convert_batch):
        super().__init__()
        self._iterator = iterator
        self._convert_batch = convert_batch

    def __next__(self):
        batch = self._convert_batch(next(self._iterator))
        return keras.tree.map_structure(_to_own_array, batch)

    def get_state(self):
        raise NotImplementedError("The batches may be of any kind.")

    def set_state(self, state):
        raise NotImplementedError("The batches may be of any kind.")
