"""Grain's datasets of batches of any kind; importing Grain takes a second."""

import grain


class ConvertedDataset(grain.IterDataset):
    """Batches of any kind, read from the beginning in each epoch.

    Args:
        batches: iterable of batches.
        convert: function of a batch that returns one for Keras.
    """

    is_checked = True
    is_converted = True

    def __init__(self, batches, convert):
        super().__init__()
        self._batches = batches
        self._convert = convert

    def __iter__(self):
        return ConvertedIterator(iter(self._batches), self._convert)


class ConvertedIterator(grain.DatasetIterator):
    """Batches of any kind, read once.

    Args:
        iterator: iterator of batches.
        convert: see `ConvertedDataset`.
    """

    def __init__(self, iterator, convert):
        super().__init__()
        self._iterator = iterator
        self._convert = convert

    def __next__(self):
        return self._convert(next(self._iterator))

    def get_state(self):
        raise NotImplementedError("The batches may be of any kind.")

    def set_state(self, state):
        raise NotImplementedError("The batches may be of any kind.")
