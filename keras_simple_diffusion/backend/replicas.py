"""Copies of a model that each process a part of the batch.

JAX's compiler splits the work of a batch over the devices: a program sees the
whole batch. In TensorFlow's `MirroredStrategy`, and in PyTorch processes, each
copy of the model sees a part. All copies have the same random state: they draw
random numbers for the whole batch and use their own part, as one copy would.
"""

import keras
from keras import ops

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend import torch_processes
from keras_simple_diffusion.backend import torch_sharding
from keras_simple_diffusion.utils.errors import InputError


def uses_mirrored_strategy():
    """Tell if TensorFlow's strategies take the place of Keras's."""
    return keras.config.backend() == "tensorflow"


def mirrored_scope():
    """Return the scope of a strategy that copies a model to each device."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return tf.distribute.MirroredStrategy(names).scope()


def uses_torch_processes():
    """Tell if PyTorch processes take the place of Keras's distributions."""
    return (
        keras.config.backend() == "torch"
        and not keras_internals.torch_distributes()
    )


def replica():
    """Return the index of this copy of the model, and the number of copies.

    Returns:
        A tuple `(index, count)`, `(0, 1)` outside of TensorFlow's strategies
        and of several PyTorch processes.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None:
            count = context.num_replicas_in_sync
            return context.replica_id_in_sync_group, count
    if keras.config.backend() == "torch":
        return torch_processes.replica()
    return 0, 1


# === Batches ===


def whole_size(size):
    """Return the size of the whole batch from that of this copy's part."""
    _, count = replica()
    return size * count


def own_part(whole):
    """Return this copy's part of a tensor of the whole batch."""
    index, count = replica()
    if count == 1:
        return whole
    size = ops.shape(whole)[0] // count
    return whole[index * size : (index + 1) * size]


def join_rows(part):
    """Join the parts of all copies to a tensor of the whole batch.

    Args:
        part: tensor, or NumPy array, of the same shape in all copies.

    Returns:
        On PyTorch a tensor without a gradient; otherwise `part`.
    """
    if not _is_of_several_processes():
        return part
    return torch_processes.join_rows(ops.convert_to_tensor(part))


def sum_counts(counts):
    """Add up numbers that the copies have counted in their parts.

    Args:
        counts: dict of float32 scalar tensors.

    Returns:
        A dict of the sums over PyTorch's processes; otherwise `counts`.
    """
    if not counts or not _is_of_several_processes():
        return counts
    rows = ops.expand_dims(ops.stack(list(counts.values())), 0)
    sums = ops.sum(torch_processes.join_rows(rows), axis=0)
    return {name: sums[i] for i, name in enumerate(counts)}


def _is_of_several_processes():
    return keras.config.backend() == "torch" and replica()[1] > 1


# === Losses and gradients ===


class ParallelStep:
    """Forward passes of training in all copies, with one gradient.

    It has an effect in several PyTorch processes only: their gradients are
    averaged while they are computed. TensorFlow's are summed after that, see
    `whole_gradients`.

    Args:
        model: the `keras.Model` that is trained.
        list_layers: function of the model that returns the layers whose
            weights are gathered one layer at a time, where they are split.
    """

    def __init__(self, model, list_layers):
        self._model = model
        self._list_layers = list_layers
        self._step = None

    def build(self, optimizer):
        """Create the variables of an optimizer of the model.

        Where weights are split over the processes, those of the model are
        split now, and the optimizer's are created as parts.

        Args:
            optimizer: a `keras.optimizers.Optimizer` that is not built.
        """
        trained = self._model.trainable_variables
        if not torch_processes.splits_weights():
            optimizer.build(trained)
            return
        if self._step is None:
            torch_processes.take_over(self._model.variables)
            self._step = torch_sharding.ShardedStep(
                trained, self._list_layers(self._model)
            )
        with torch_sharding.splitting_new_variables():
            optimizer.build(trained)

    def __call__(self, function, inputs):
        """Call a function whose result the loss is computed from.

        Args:
            function: function of `inputs` that returns nested tensors.
            inputs: this copy's part of a batch.

        Returns:
            The result of `function`.
        """
        if not _is_of_several_processes():
            return function(inputs)
        trained = self._model.trainable_variables
        if torch_processes.splits_weights():
            if self._step is None:  # Before the first training.
                return function(inputs)
        elif self._step is None or not _are_same(self._step.trained, trained):
            torch_processes.take_over(self._model.non_trainable_variables)
            self._step = torch_processes.ReducedStep(trained)
        return self._step(function, inputs)


def _are_same(variables, others):
    return [*map(id, variables)] == [*map(id, others)]


def call_with_weights(layer, function):
    """Return a function that calls a layer where its weights are gathered.

    Args:
        layer: a `keras.layers.Layer`.
        function: function that calls the layer.
    """
    if keras.config.backend() != "torch":
        return function
    return torch_sharding.call_of(layer, function)


# === Weights that are split over processes ===


def whole(tensor):
    """Return a tensor whole, even if other PyTorch processes hold parts."""
    if keras.config.backend() != "torch":
        return tensor
    return torch_sharding.whole(tensor)


def held(tensors):
    """Return the parts of tensors or variables that this process holds.

    Args:
        tensors: list of tensors and `keras.Variable`s.

    Returns:
        A list of tensors: the parts in PyTorch processes that split the
        weights, otherwise all of each.
    """
    tensors = [ops.convert_to_tensor(tensor) for tensor in tensors]
    if keras.config.backend() != "torch":
        return tensors
    return [torch_sharding.own(tensor) for tensor in tensors]


def sum_over_parts(number):
    """Add up a number that each process has computed from the parts it holds.

    Args:
        number: float32 scalar tensor.

    Returns:
        A scalar tensor.
    """
    if keras.config.backend() != "torch" or not (
        torch_processes.splits_weights()
    ):
        return number
    return ops.sum(torch_processes.join_rows(ops.reshape(number, (1,))))


def mean_of_batch(per_image):
    """Compute the mean over the whole batch of the losses of its images.

    Args:
        per_image: float32 tensor of shape `(B,)`, of this copy's part.

    Returns:
        A float32 scalar tensor, on TensorFlow the mean over the part. The
        gradient is always that of the mean over the part.
    """
    mean = ops.mean(per_image)
    if not _is_of_several_processes():
        return mean
    whole = ops.mean(torch_processes.join_rows(per_image))
    return mean + ops.stop_gradient(whole - mean)


def share_of_loss(loss):
    """Return the share of this copy in a loss that Keras adds up over copies.

    Args:
        loss: float32 scalar tensor.

    Returns:
        On TensorFlow a part of `loss`; otherwise all of it.
    """
    return loss / replica()[1] if uses_mirrored_strategy() else loss


def whole_gradients(gradients):
    """Compute gradients of the whole batch from those of this copy's part.

    Args:
        gradients: list of tensors or `None`s.

    Returns:
        On TensorFlow a list of dense tensors or `None`s, summed over the
        copies of the model; otherwise `gradients`, which are whole.
    """
    if not uses_mirrored_strategy():
        return gradients
    import tensorflow as tf

    # Gradients of embeddings are sparse: Keras would clip them by the norm of
    # their terms, not of the sums of these.
    known = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    if replica()[1] > 1:
        context = tf.distribute.get_replica_context()
        known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
    known = iter(known)
    return [None if g is None else next(known) for g in gradients]


def clip_as_one(optimizer, gradients):
    """Clip the gradients of a whole batch where Keras would clip its parts.

    In a TensorFlow strategy Keras clips the gradients of each copy of a model
    by their own norm before it sums them.

    Args:
        optimizer: the `keras.optimizers.Optimizer` whose settings are used.
        gradients: list of tensors or `None`s, see `whole_gradients`.

    Returns:
        Gradients for the optimizer. In such a strategy each copy gets an
        equal share of the clipped gradients, which leaves nothing to clip;
        otherwise `gradients`.

    Raises:
        InputError: if the optimizer accumulates gradients, which Keras does
            not do in such a strategy.
    """
    _, count = replica()
    if count == 1 or not uses_mirrored_strategy():
        return gradients
    steps = getattr(optimizer, "gradient_accumulation_steps", None)
    if steps:
        raise InputError(
            "Gradients cannot be accumulated on several devices on "
            f"TensorFlow. Received: gradient_accumulation_steps={steps}. Set "
            "the environment variable KERAS_BACKEND=jax, or remove it."
        )
    clipped = keras_internals.clip_gradients(optimizer, gradients)
    return [None if g is None else g / count for g in clipped]
