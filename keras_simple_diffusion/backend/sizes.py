"""Training on batches whose images differ in size.

PyTorch runs operations one by one, and JAX compiles a step for each size. On
TensorFlow Keras reads a batch within the compiled step, for which all sizes
must be the same.
"""

import itertools

import keras

from keras_simple_diffusion.utils.errors import InputError


def dataset_of_sizes(batches):
    """Let Keras read batches whose images differ in size.

    Args:
        batches: iterable of dicts of arrays, with `"images"` of shape
            `(B, H, W, C)`.

    Returns:
        `batches`; on TensorFlow a `tf.data.Dataset`.

    Raises:
        InputError: if TensorFlow has several devices.
    """
    if keras.config.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise InputError(
            "TensorFlow trains on images of several sizes on one device only. "
            "Use JAX or PyTorch for several."
        )
    signature = {}
    for name, array in next(iter(batches)).items():
        shape = array.shape
        if name == "images":
            shape = (shape[0], None, None, shape[3])
        signature[name] = tf.TensorSpec(shape, array.dtype)
    return tf.data.Dataset.from_generator(
        lambda: batches, output_signature=signature
    )


def compiled_by_size(make, count):
    """Compile a step of TensorFlow once for each size of images.

    Args:
        make: function without arguments that returns Keras's step, a function
            of an iterator of batches.
        count: int. Number of batches that a step takes.

    Returns:
        A step.
    """
    usual, by_size = make(), {}

    def step(iterator):
        specs = getattr(iterator, "element_spec", None)
        if specs is not None and all(map(_is_of_one_size, _flatten(specs))):
            return usual(iterator)
        outputs = None
        for batch in itertools.islice(iterator, count):
            sizes = tuple(tuple(x.shape[1:]) for x in _flatten(batch))
            if sizes not in by_size:
                by_size[sizes] = make()
            outputs = by_size[sizes]([batch])
        if outputs is None:
            raise StopIteration
        return outputs

    return step


def _flatten(batch):
    return [x for x in keras.tree.flatten(batch) if hasattr(x, "shape")]


def _is_of_one_size(spec):
    # Of images only: one program takes texts of any length.
    return spec.shape.rank != 4 or None not in spec.shape[1:].as_list()
