"""Private and undocumented names of other libraries, all that we rely on.

Each may change without notice. `tests/backend/keras_internals_test.py` has a
test for each, of the behaviour that is relied on, and `pyproject.toml` bounds
the versions of Keras and keras_hub from above to those that pass.
"""

import contextlib
import contextvars
import functools
import importlib.util
import os
import sys

# === Imports (Keras) ===
# Defined before Keras is imported, as it is called at the end of that import.


def leave_tensorflow_to_others():
    """Let Keras look for TensorFlow's objects only where it is imported.

    On the other backends Keras otherwise imports it to serialize a model, as a
    part of one could be an object of TensorFlow.
    """
    from keras.src.utils import module_utils

    class ImportedModule(module_utils.LazyModule):
        @property
        def available(self):
            return self.name in sys.modules and super().available

    module_utils.tensorflow.__class__ = ImportedModule


import keras  # noqa: E402
import numpy as np  # noqa: E402

from keras_simple_diffusion.backend import sizes  # noqa: E402
from keras_simple_diffusion.utils.interrupts import uninterrupted  # noqa: E402

# === Presets (keras_hub) ===
# keras_hub is imported inside functions: it takes seconds.


def get_preset_loader(preset):
    """Open a preset of keras_hub or of the formats that it converts.

    Args:
        preset: string. A folder, or an `hf://` or `kaggle://` handle.

    Returns:
        keras_hub's loader, with `check_backbone_class`.
    """
    from keras_hub.src.utils import preset_utils

    return preset_utils.get_preset_loader(preset)


def find_preset_file(preset, name):
    """Find a file of a preset, and download it if the preset is remote.

    Args:
        preset: string. A folder, or an `hf://` or `kaggle://` handle.
        name: string. Name of the file.

    Returns:
        The local path of the file as a string, or `None` if the preset has no
        such file.

    Raises:
        ImportError: if the package that downloads is not installed.
        OSError: if the preset cannot be reached.
        ValueError: if the handle is malformed.
    """
    from keras_hub.src.utils import preset_utils

    try:
        return preset_utils.get_file(preset, name)
    except FileNotFoundError as error:
        # keras_hub reports a missing connection as a missing file.
        if isinstance(error.__cause__, FileNotFoundError):
            raise ConnectionError(str(error.__cause__)) from error
        return None


def builtin_handle(preset):
    """Return the handle of a preset of keras_hub, `None` for other names.

    It has a version, as `"kaggle://keras/t5/keras/t5_1.1_xxl/4"`.
    """
    import keras_hub

    known = keras_hub.models.Backbone.presets.get(preset)
    return None if known is None else known["kaggle_handle"]


def is_downloaded(preset):
    """Tell if the weights of a preset of a hub are on this machine.

    Args:
        preset: string. A preset of keras_hub, or an `hf://` or `kaggle://`
            handle; others count as not downloaded.
    """
    scheme, _, name = (builtin_handle(preset) or preset).partition("://")
    try:
        if scheme == "kaggle":
            from kagglehub import cache
            from kagglehub import handle

            model = handle.parse_model_handle(name)
            find = functools.partial(cache.get_cached_path, model)
        elif scheme == "hf":
            from huggingface_hub import try_to_load_from_cache

            find = functools.partial(try_to_load_from_cache, name)
        else:
            return False
        found = [find(file) for file in _WEIGHTS_OF_HUBS]
    except (ImportError, ValueError):  # No client, or a malformed handle.
        return False
    return any(isinstance(p, str) and os.path.exists(p) for p in found)


_WEIGHTS_OF_HUBS = (
    *("model.weights.h5", "model.weights.json"),
    *("model.safetensors", "model.safetensors.index.json"),
)


# === DINOv2 (keras_hub) ===


def dino_positions(backbone):
    """Return the position embeddings of a `keras_hub.models.DINOV2Backbone`.

    keras_hub resizes them with `keras.ops.image.resize`, whose result depends
    on the backend; with these names DINOv2's own resizing takes its place.

    Returns:
        A tuple of the learned variable of shape `(1, 1 + n^2, C)`, the variable
        of the resized ones, and a bool that says if resizing is antialiased.
    """
    embeddings = backbone.embeddings
    return (
        embeddings.position_embeddings,
        embeddings.interpolated_position_embeddings,
        backbone.antialias_in_interpolation,
    )


# === Functional models ===


class OwnGraphRun:
    """Mixin for functional models that run their layers themselves.

    Keras has no public hook around the layers of a functional model.
    """

    def run_layers(self, inputs, operation_fn):
        """Run the graph; subclasses may replace Keras's way of doing it.

        Args:
            inputs: the model's inputs, nested as it expects them.
            operation_fn: function of a layer that returns what to call.

        Returns:
            The outputs, nested as the model returns them.
        """
        return super()._run_through_graph(inputs, operation_fn)

    def _run_through_graph(
        self, inputs, operation_fn=lambda op: op, call_fn=None
    ):
        if call_fn is None:
            return self.run_layers(inputs, operation_fn)
        return super()._run_through_graph(inputs, operation_fn, call_fn)


def graph_nodes(model):
    """List the calls of layers in a functional model, in order.

    Returns:
        A list of nodes with the attributes `operation`, `input_tensors`,
        `outputs`, and `arguments.fill_in`, which replaces symbolic tensors by
        the values of a dict from their `id`.
    """
    return [
        node
        for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True)
        for node in nodes
        if node.operation and not node.is_input
    ]


def output_structure(model):
    """Return the nested structure of a functional model's outputs."""
    return model._outputs_struct


# === Layers ===


def layers_within(layer):
    """List the layers within a layer or model, at any depth."""
    return layer._flatten_layers(include_self=False)


def is_rematerialized(layer):
    """Tell if a layer was made within a `keras.RematScope`."""
    return layer._remat_mode is not None


class QuantizableSubclass:
    """Mixin for subclasses of Keras layers that compute the same as these.

    Keras refuses to quantize subclasses, because they could compute something
    else.
    """

    def quantize(self, mode=None, type_check=True, config=None):
        super().quantize(mode, type_check=False, config=config)


class FixedSeed(keras.random.SeedGenerator):
    """A given seed in place of a generator, for one call of `keras.random`.

    It has no state, so the base class is not initialized. On PyTorch Keras
    would ignore the seed of a generator without `_initial_seed`.

    Args:
        seed: int tensor of shape `(2,)`.
    """

    def __init__(self, seed):
        self.seed = seed
        self._initial_seed = seed

    def next(self, ordered=True):
        return self.seed


# === Variables ===
_initializers = contextvars.ContextVar("initializers", default=())


@contextlib.contextmanager
def initializing(change):
    """Context in which a function changes how this thread's variables begin.

    Args:
        change: function of a new variable and its initializer, a function of
            `shape` and `dtype`, that returns the initializer to use.
    """
    original = keras.Variable._initialize_with_initializer
    if not hasattr(original, "__wrapped__"):

        @functools.wraps(original)
        def initialize(variable, initializer):
            for change in _initializers.get():
                initializer = change(variable, initializer)
            original(variable, initializer)

        keras.Variable._initialize_with_initializer = initialize
    token = _initializers.set((*_initializers.get(), change))
    try:
        yield
    finally:
        _initializers.reset(token)


def without_initialization():
    """Create weights as zeros in this thread, as they are read from a file.

    Random values take most of the time of loading a model, on JAX with a
    compilation for each shape. States of random numbers are initialized.
    """

    def change(variable, initializer):
        is_float = keras.backend.is_float_dtype(variable.dtype)
        return np.zeros if is_float else initializer  # No compilation on JAX.

    return initializing(change)


class SplitVariable(keras.Variable):
    """Base class of variables that are assigned and read as a whole.

    Subclasses define `split`, from a whole value to that of this process, and
    `join`, which returns the whole value.
    """

    def _direct_assign(self, value):
        super()._direct_assign(self.split(value))

    def __array__(self, dtype=None):
        array = keras.ops.convert_to_numpy(self.join())
        return array.astype(dtype) if dtype else array


def layout_of(variable):
    """Return the layout that splits a variable over devices, or `None`."""
    return getattr(variable, "_layout", None)


def replace_value(variable, value):
    """Replace the value of a variable; `assign` would split it over devices.

    Args:
        variable: a `keras.Variable`.
        value: tensor or NumPy array of its shape.

    Returns:
        The previous value.
    """
    previous = variable._value
    variable._value = value
    return previous


def agree_on_seed():
    """Give all JAX processes one global seed, unless one is set."""
    from keras.src.backend.jax import distribution_lib

    distribution_lib.initialize_rng()


# === Training steps ===
# Groups of variables, in the order in which Keras hands out their values.
_STATE = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)


def is_validation_of_fit(arguments):
    """Tell if `evaluate` is called by `fit`, on data that it has prepared.

    Args:
        arguments: dict of the arguments of `evaluate`.
    """
    return arguments.get("_use_cached_eval_dataset", False)


class OwnTrainingSteps:
    """Mixin for models whose weights one thread reads while another trains.

    Each compiled step of `fit` and `evaluate` runs within `step_lock`.

    On JAX Keras moves the values out of the variables, from step to step. They
    are stored before and after each step, so that they can be read meanwhile,
    and that neither an error nor Ctrl-C loses them.
    """

    step_lock = contextlib.nullcontext()
    compiles_whole_steps = True  # On PyTorch, if Keras is asked to compile.

    def _should_torch_compile(self):
        return self.compiles_whole_steps and super()._should_torch_compile()

    def make_train_function(self, force=False):
        super().make_train_function(force)
        self.train_function = self._locked(self.train_function)

    def make_test_function(self, force=False):
        super().make_test_function(force)
        self.test_function = self._locked(self.test_function)

    def zero_grad(self, set_to_none=True):
        """Forget the gradients of the last step, on PyTorch.

        Keras lists variables by their paths, which are equal in a teacher and
        its student, and would leave out some.
        """
        for variable in self.trainable_variables:
            variable.value.grad = None

    def recover_values(self):
        """Put values back into the variables, if Keras has moved them out."""
        if hasattr(self, "jax_state_sync"):
            self.jax_state_sync()
            self._jax_state = None

    def _locked(self, step):
        if getattr(step, "is_locked", False):
            return step

        @functools.wraps(step)
        def locked(*args):
            with self.step_lock:
                return step(*args)

        locked.is_locked = True
        return locked

    def _make_function(self, step_function, *args, **kwargs):
        if hasattr(self, "jax_state_sync"):
            step_function = self._storing(step_function)
        make = functools.partial(
            super()._make_function, step_function, *args, **kwargs
        )
        if keras.config.backend() == "tensorflow":
            return sizes.compiled_by_size(make, self.steps_per_execution)
        return make()

    def _storing(self, step):
        def stored(state, data):
            # The step frees the arrays of its state: only the results count.
            with uninterrupted():
                outputs, state = step(state, data)
                names = list(self._jax_state)
                self._jax_state = dict(zip(names, state, strict=True))
            return outputs, state

        return stored

    def _get_jax_state(self, purge_model_variables=False, **groups):
        with self.step_lock:
            state = super()._get_jax_state(**groups)
            names = [name for name in _STATE if groups.get(name)]
            self._jax_state = dict(zip(names, state, strict=True))
            self._jax_state_synced = False
            return super()._get_jax_state(
                purge_model_variables=purge_model_variables, **groups
            )

    def values_of(self, variables):
        """Return the current values of variables, also during training.

        Args:
            variables: list of variables of the model or of its optimizer.

        Returns:
            A list of tensors.
        """
        kept = {}
        if any(variable._value is None for variable in variables):
            for name, values in (self._jax_state or {}).items():
                if name == "optimizer_variables":
                    owners = self.optimizer.variables
                else:
                    owners = getattr(self, name)
                kept.update(zip(map(id, owners), values, strict=True))
        return [
            keras.ops.convert_to_tensor(kept.get(id(variable), variable))
            for variable in variables
        ]


def keeps_values(method):
    """Let a method of a Keras model keep the model's values in any case.

    Args:
        method: function of a model with `OwnTrainingSteps`, such as
            `keras.Model.evaluate`. It may be called within a callback of
            another one, and end by an error or Ctrl-C.

    Returns:
        A function with the same arguments.
    """

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        self.recover_values()
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            self.recover_values()
            raise

    return call


def average_loss_in_float32(model):
    """Let a compiled model add up its loss in float32, whatever `floatx` is."""
    mean = keras.metrics.Mean("loss", dtype="float32")
    # Not by the model's own method, which would list it a second time.
    object.__setattr__(model, "_loss_tracker", mean)


# === Optimizers ===


def trained_variables(optimizer):
    """List the variables that an optimizer was built for, in their order."""
    return optimizer._trainable_variables


def clip_gradients(optimizer, gradients):
    """Clip gradients by the settings of an optimizer."""
    return optimizer._clip_gradients(gradients)


def adam_moments(optimizer, variables):
    """Return the first and the second moments that Adam keeps of variables.

    Args:
        optimizer: a built `keras.optimizers.Adam`.
        variables: list of variables that it trains.

    Returns:
        A tuple of two lists of `keras.Variable`s.
    """
    indices = [optimizer._get_variable_index(v) for v in variables]
    return (
        [optimizer._momentums[i] for i in indices],
        [optimizer._velocities[i] for i in indices],
    )


class OwnUpdateStep:
    """Mixin for optimizers that update all variables in one call.

    Keras has no public hook between the clipping of gradients and the updates
    of single variables.
    """

    def update_all(self, gradients, variables, learning_rate):
        """Update the variables; subclasses may replace Keras's way.

        Args:
            gradients: list of tensors, clipped.
            variables: list of `keras.Variable`s.
            learning_rate: float scalar tensor.
        """
        super()._backend_update_step(gradients, variables, learning_rate)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        self.update_all(grads, trainable_variables, learning_rate)


# === PyTorch ===


def torch_distributes():
    """Tell if Keras has a `keras.distribution` for PyTorch, as 3.15 has not."""
    name = "keras.src.backend.torch.distribution_lib"
    return importlib.util.find_spec(name) is not None


def torch_fused_adam(weights, gradients, moments, squares, rate, **options):
    """Update weights by Adam in one kernel, without correction of the bias.

    `torch.optim.Adam(fused=True)` would keep moments of its own.

    Args:
        weights: list of tensors.
        gradients: list of tensors like `weights`.
        moments: list of tensors, averages of the gradients.
        squares: list of tensors, averages of the squared gradients.
        rate: float32 scalar tensor.
        **options: `beta1`, `beta2` and `eps`, floats.
    """
    import torch

    late = torch.full((), 1e9, device=rate.device)  # No correction of the bias.
    torch._fused_adam_(
        weights,
        gradients,
        moments,
        squares,
        [],
        [late] * len(weights),
        lr=rate,
        weight_decay=0.0,
        amsgrad=False,
        maximize=False,
        **options,
    )


# === Grain and TensorFlow Datasets ===


def prepare_grain_workers():
    """Let Grain start processes: it reads a flag of absl, which must be parsed.

    Outside of `absl.app.run` nothing parses the flags.
    """
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def is_killed_worker(error):
    """Tell if an error of Grain says that one of its processes was killed.

    It is a `RuntimeError` that only its text tells from others.
    """
    return str(error).startswith("Worker process was terminated")


def dataset_not_found_error():
    """Return the class of TensorFlow Datasets' error for an unknown name."""
    import tensorflow_datasets as tfds

    return tfds.core.registered.DatasetNotFoundError
