"""Strategies that split batches, weights or the work on an image."""

import contextlib

import keras

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.backend import replicas
from keras_simple_diffusion.backend import torch_processes
from keras_simple_diffusion.backend.keras_internals import layout_of
from keras_simple_diffusion.utils.errors import InputError


class FullySharded(keras.distribution.DataParallel):
    """Data parallelism with weights that are split over the devices, too.

    Every weight of two or more dimensions is split along its largest dimension
    that the number of devices divides, together with the optimizer's moments
    and the averages of the weights. The compiler gathers the parts where they
    are used. All other weights are copied to every device.

    Args:
        **kwargs: `keras.distribution.DataParallel` arguments.

    Example:
    ```python
    distribution = keras_simple_diffusion.distribution.FullySharded()
    with distribution.scope():
        backbone = keras_simple_diffusion.models.UViTBackbone(
            (16, 16, 1), channels=(16,), blocks=(1,)
        )
        model = keras_simple_diffusion.models.DiffusionModel(backbone)
    ```

    References:
        - [Rajbhandari et al., 2019](https://arxiv.org/abs/1910.02054)
    """

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        if layout_of(variable) is not None:
            return layout
        shape = variable.shape
        count = self.num_model_replicas
        fitting = [i for i, size in enumerate(shape) if size % count == 0]
        if len(shape) < 2 or not fitting:
            return layout
        axes = list(layout.axes)
        axes[max(fitting, key=lambda i: (shape[i], i))] = self.batch_dim_name
        return keras.distribution.TensorLayout(axes, self.device_mesh)


@contextlib.contextmanager
def distribute(strategy, backbone=None):
    """Build, train and sample models on all devices while in this context.

    Args:
        strategy: string.
            - `"data"`: every device has the whole network and a part of the
              batch.
            - `"sharded"`: the weights, the optimizer's moments and the
              averages are split over the devices, too; see `FullySharded`.
            - `"tensor:N"`: groups of `N` devices share the work on each
              image, and the batch is split over the groups. `N` must divide
              the number of devices, and should divide the number of attention
              heads.
        backbone: class of the network, for `"tensor:N"`. Its
            `get_layout_map` says how the weights are split.

    Yields:
        The `keras.distribution.Distribution` on JAX, the
        `tf.distribute.Strategy` on TensorFlow, `None` on PyTorch.

    Raises:
        InputError: if `strategy` is unknown, or not available on this backend.

    Example:
    ```python
    images, _ = keras_simple_diffusion.data.load_digits(image_size=16)
    with keras_simple_diffusion.distribution.distribute("sharded"):
        backbone = keras_simple_diffusion.models.UViTBackbone(
            (16, 16, 1), channels=(16,), blocks=(1,)
        )
        model = keras_simple_diffusion.models.DiffusionModel(backbone)
        model.fit(images[:64], batch_size=32)
    ```
    """
    name, group_size = _parse(strategy)
    if replicas.uses_mirrored_strategy():
        if name != "data":
            raise InputError(
                "On TensorFlow `strategy` must be 'data'. Received: "
                f"'{strategy}'. Set the environment variable KERAS_BACKEND=jax "
                "for the others."
            )
        with replicas.mirrored_scope() as strategy:
            yield strategy
        return
    if replicas.uses_torch_processes():
        if name == "tensor":
            raise InputError(
                "On PyTorch `strategy` must be 'data' or 'sharded'. Received: "
                f"'{strategy}'. Set the environment variable KERAS_BACKEND=jax "
                "for the others."
            )
        with torch_processes.distributing(name):
            yield None
        return
    if not native.keras_distributes():
        raise InputError(
            f"Keras {keras.__version__} does not distribute on "
            f"{native.backend_name()}. Received: '{strategy}'. Set the "
            "environment variable KERAS_BACKEND=jax."
        )
    if name == "data":
        # Each process reads its own share of the data, see `data_shard`.
        distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    elif name == "sharded":
        distribution = FullySharded(auto_shard_dataset=False)
    else:
        distribution = _tensor_parallel(group_size, backbone)
    with distribution.scope():
        yield distribution


def check_distribution():
    """Raise an `InputError` if Keras would ignore the distribution set."""
    is_set = keras.distribution.distribution() is not None
    if is_set and not native.keras_distributes():
        raise InputError(
            "`keras.distribution` has no effect on "
            f"{native.backend_name()} with Keras {keras.__version__}. Remove "
            "the distribution, or set the environment variable "
            "KERAS_BACKEND=jax."
        )


def _parse(strategy):
    name, _, size = str(strategy).partition(":")
    is_tensor = name == "tensor" and size.isdecimal() and int(size) > 0
    if strategy not in ("data", "sharded") and not is_tensor:
        raise InputError(
            "`strategy` must be 'data', 'sharded' or 'tensor:N' with a number "
            f"N of devices. Received: '{strategy}'"
        )
    return name, int(size) if is_tensor else None


def _tensor_parallel(group_size, backbone):
    if not hasattr(backbone, "get_layout_map"):
        raise InputError(
            "'tensor:N' needs the class of the network, whose `get_layout_map` "
            f"splits the weights. Received: backbone={backbone}"
        )
    devices = keras.distribution.list_devices()
    if len(devices) % group_size:
        raise InputError(
            "'tensor:N' needs a number N that divides the number of devices, "
            f"{len(devices)}. Received: 'tensor:{group_size}'"
        )
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // group_size, group_size), ("batch", "model"), devices
    )
    return keras.distribution.ModelParallel(
        layout_map=backbone.get_layout_map(mesh),
        batch_dim_name="batch",
        auto_shard_dataset=False,
    )
