"""Captions on their way into `fit`: token ids take their place."""

import grain
import keras
import numpy as np

from keras_simple_diffusion.models.training_data import check_images
from keras_simple_diffusion.utils.errors import InputError

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
            "Data must have 'portrait', 1 for a picture turned on its side, "
            "just if the network has `portrait_flag=True`. Received: "
            f"portrait_flag={portrait_flag} and data with {sorted(batch)}"
        )
    if "captions" in batch:
        captions = _to_list(batch.pop("captions"))
        if len(captions) != len(batch["images"]):
            raise InputError(
                "There must be one caption a picture. Received: "
                f"{len(batch['images'])} pictures and {len(captions)} captions"
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
