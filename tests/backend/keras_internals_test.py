"""A test for each private or undocumented name of other libraries."""

import concurrent.futures
import contextlib
import multiprocessing
import sys

import grain
import keras
import keras_hub
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend import keras_internals as internals
from tests.helpers.models import make_backbone
from tests.helpers.models import make_model
from tests.helpers.models import randomize

TESTED = set()


def relies_on(library, name, *behaviours):
    """Mark the test of a name; its failure says that the library changed it."""
    TESTED.add(name)

    @contextlib.contextmanager
    def context():
        try:
            yield
        except Exception as error:
            pytest.fail(
                f"{library} changed {', '.join(behaviours)}, on which "
                f"`keras_internals.{name}` relies: {error!r}"
            )

    return context()


# === Imports ===


@relies_on(
    "Keras", "leave_tensorflow_to_others", "`keras.src.utils.module_utils`"
)
def test_leave_tensorflow_to_others(monkeypatch):
    from keras.src.saving import serialization_lib
    from keras.src.utils import module_utils

    lazy = module_utils.tensorflow
    assert serialization_lib.tf is lazy
    with monkeypatch.context() as patch:
        patch.setattr(lazy, "__class__", type(lazy))  # Put back afterwards.
        internals.leave_tensorflow_to_others()
        patch.setitem(sys.modules, "tensorflow", lazy)
        patch.setattr(lazy, "_available", True)
        assert lazy.available is True
        patch.delitem(sys.modules, "tensorflow")
        assert lazy.available is False


# === Presets ===


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder with the preset of a model, and the model."""
    model = make_model()
    randomize(model.backbone)
    folder = str(tmp_path_factory.mktemp("preset") / "preset")
    model.save_to_preset(folder)
    return folder, model


@relies_on("keras_hub", "find_preset_file", "`preset_utils.get_file`")
def test_find_preset_file(preset):
    path = internals.find_preset_file(preset[0], "config.json")
    assert path == f"{preset[0]}/config.json"
    assert internals.find_preset_file(preset[0], "tokenizer.json") is None


@relies_on("keras_hub", "get_preset_loader", "`check_backbone_class`")
def test_get_preset_loader(preset):
    loader = internals.get_preset_loader(preset[0])
    assert loader.check_backbone_class() is ksd.models.UViTBackbone


@relies_on("keras_hub", "builtin_handle", '`presets[...]["kaggle_handle"]`')
def test_builtin_handle():
    assert internals.builtin_handle("no_such_preset") is None
    handle = internals.builtin_handle("t5_1.1_xxl")
    scheme, _, rest = handle.partition("://")
    assert scheme == "kaggle"
    assert rest.startswith("keras/t5/keras/t5_1.1_xxl/")
    assert rest.rsplit("/", 1)[1].isdecimal()  # The version.


@relies_on("kagglehub", "is_downloaded", "`cache.get_cached_path`")
def test_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    handle = "kaggle://a/b/keras/c/1"
    for preset in (handle, "t5_1.1_small", "hf://no-one/nothing", "gs://a/b"):
        assert not internals.is_downloaded(preset)
    for malformed in ("kaggle://a", "hf://a; b", "hf://"):
        assert not internals.is_downloaded(malformed)
    # Where kagglehub itself finds it, without a network.
    folder = tmp_path / "models" / "a" / "b" / "keras" / "c"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.weights.h5").write_bytes(b"")
    (folder / ".complete" / "1").mkdir(parents=True)
    (folder / ".complete" / "1" / "model.weights.h5.complete").touch()
    assert internals.is_downloaded(handle)
    path = internals.find_preset_file(handle, "model.weights.h5")
    assert path == str(folder / "1" / "model.weights.h5")


@relies_on("keras_hub", "dino_positions", "`DINOV2Backbone`'s positions")
def test_dino_positions():
    backbone = keras_hub.models.DINOV2Backbone(
        patch_size=4,
        num_layers=1,
        hidden_dim=8,
        num_heads=2,
        intermediate_dim=16,
        image_shape=(8, 8, 3),
        position_embedding_shape=(16, 16),
        antialias_in_interpolation=False,
    )
    learned, resized, antialias = internals.dino_positions(backbone)
    assert tuple(learned.shape) == (1, 1 + 16, 8)
    assert tuple(resized.shape) == (1, 1 + 4, 8)
    assert antialias is False
    images = {"images": np.ones((1, 8, 8, 3), "float32")}
    before = ops.convert_to_numpy(backbone(images))
    resized.assign(np.arange(5 * 8, dtype="float32").reshape(1, 5, 8) % 7)
    after = ops.convert_to_numpy(backbone(images))
    assert np.abs(before - after).max() > 0.1


# === Functional models ===


def branched_model(cls=keras.Model):
    inputs = keras.Input((4,), name="x")
    first = layers.Dense(3, name="first")(inputs)
    second = layers.Dense(3, name="second")(first)
    outputs = {"sum": layers.Add(name="sum")([first, second]), "first": first}
    return cls(inputs, outputs)


@relies_on("Keras", "OwnGraphRun", "`Functional._run_through_graph`")
def test_own_graph_run():
    calls = []

    class Recorded(internals.OwnGraphRun, keras.Model):
        def run_layers(self, inputs, operation_fn):
            calls.append(inputs)
            return super().run_layers(inputs, operation_fn)

    keras.utils.set_random_seed(0)
    recorded = branched_model(Recorded)
    keras.utils.set_random_seed(0)
    plain = branched_model()
    x = np.ones((2, 4), "float32")
    found, expected = recorded(x), plain(x)
    assert len(calls) == 1
    for name, value in expected.items():
        np.testing.assert_allclose(
            ops.convert_to_numpy(found[name]), ops.convert_to_numpy(value)
        )
    # Shapes are computed without it.
    assert recorded(keras.Input((4,)))["sum"].shape == (None, 3)
    assert len(calls) == 1


@relies_on("Keras", "graph_nodes", "`_nodes_by_depth`", "`Node`")
def test_graph_nodes():
    model = branched_model()
    nodes = internals.graph_nodes(model)
    names = [node.operation.name for node in nodes]
    assert names == ["first", "second", "sum"]
    first, second, last = nodes
    assert [id(x) for x in first.input_tensors] == [id(model.inputs[0])]
    assert {id(x) for x in last.input_tensors} == {
        id(first.outputs[0]),
        id(second.outputs[0]),
    }
    values = {id(first.outputs[0]): "a", id(second.outputs[0]): "b"}
    args, kwargs = last.arguments.fill_in(values)
    assert (args, kwargs) == ((["a", "b"],), {})


@relies_on("Keras", "output_structure", "`Functional._outputs_struct`")
def test_output_structure():
    structure = internals.output_structure(branched_model())
    packed = keras.tree.pack_sequence_as(structure, ["a", "b"])
    order = [
        {id(v): k for k, v in structure.items()}[id(output)]
        for output in keras.tree.flatten(structure)
    ]
    assert packed == dict(zip(order, ["a", "b"], strict=True))
    assert set(packed) == {"sum", "first"}


# === Training ===


@relies_on("Keras", "OwnTrainingSteps", "`train_function`", "`_jax_state`")
def test_own_training_steps():
    seen = []

    class Lock:
        """Reads the weight at the end of each step, while `fit` goes on."""

        def __enter__(self):
            pass

        def __exit__(self, *error):
            (value,) = model.values_of(model.weights[:1])
            seen.append(ops.convert_to_numpy(value).item())

    class Locked(internals.OwnTrainingSteps, keras.Sequential):
        step_lock = Lock()

    model = Locked([layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    x, y = np.ones((3, 1), "float32"), np.zeros((3, 1), "float32")
    # The gradient of the squared weight is twice the weight.
    model.fit(x, y, batch_size=1, epochs=1, verbose=0)
    assert [value for value in seen if value < 1.0] == [0.5, 0.25, 0.125]
    seen.clear()
    model.evaluate(x, y, batch_size=3, verbose=0)
    assert set(seen) == {0.125}
    model.recover_values()
    assert model.weights[0].numpy().item() == 0.125


@relies_on("Keras", "keeps_values", "`_jax_state_synced`")
def test_keeps_values():
    class Kept(internals.OwnTrainingSteps, keras.Sequential):
        predict = internals.keeps_values(keras.Model.predict)

    def batches():
        yield (np.ones((2, 3), "float32"),)
        raise RuntimeError("gone")

    model = Kept([keras.Input((3,)), layers.Dense(1)])
    before = model.weights[0].numpy()
    with pytest.raises(RuntimeError, match="gone"):
        model.predict(batches(), verbose=0)
    np.testing.assert_array_equal(model.weights[0].numpy(), before)


@relies_on("Keras", "average_loss_in_float32", "`_loss_tracker`")
def test_average_loss_in_float32():
    keras.config.set_floatx("bfloat16")
    try:
        model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
        for _ in range(2):
            model.compile("sgd", "mse")
            internals.average_loss_in_float32(model)
    finally:
        keras.config.set_floatx("float32")
    names = [metric.name for metric in model.metrics]
    assert names.count("loss") == 1
    assert model.metrics[names.index("loss")].dtype == "float32"
    # bfloat16 counts up to 256.
    x = np.ones((600, 1), "float32")
    y = np.arange(600, dtype="float32")[:, None] % 2
    value = model.evaluate(x, y, batch_size=1, verbose=0)
    expected = model.evaluate(x[:2], y[:2], batch_size=1, verbose=0)
    assert value == pytest.approx(expected, rel=1e-3)


# === Layers ===


@relies_on("Keras", "layers_within", "`Layer._flatten_layers`")
def test_layers_within():
    inner = layers.Dense(1)
    middle = keras.Sequential([inner])
    model = keras.Sequential([middle])
    found = internals.layers_within(model)
    assert inner in found and middle in found and model not in found


@relies_on("Keras", "is_rematerialized", "`Layer._remat_mode`")
def test_is_rematerialized():
    with keras.RematScope(mode="full"):
        inner = layers.Dense(1)
    outer = layers.Dense(1)
    assert internals.is_rematerialized(inner)
    assert not internals.is_rematerialized(outer)


@relies_on("Keras", "is_validation_of_fit", "`_use_cached_eval_dataset`")
def test_is_validation_of_fit():
    calls = []

    class Noted(keras.Sequential):
        def evaluate(self, *args, **kwargs):
            calls.append(internals.is_validation_of_fit(kwargs))
            return super().evaluate(*args, **kwargs)

    model = Noted([keras.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model.fit(x, y, validation_data=(x, y), verbose=0)
    model.evaluate(x, y, verbose=0)
    assert calls == [True, False]


@relies_on("Keras", "QuantizableSubclass", "`Layer.quantize(type_check=)`")
def test_quantizable_subclass():
    class Plain(layers.Dense):
        pass

    class Quantizable(internals.QuantizableSubclass, layers.Dense):
        pass

    plain, quantizable = Plain(3), Quantizable(3)
    for layer in (plain, quantizable):
        layer.build((None, 4))
    with pytest.raises(NotImplementedError):
        plain.quantize("int8")
    quantizable.quantize("int8")
    assert quantizable.quantization_mode == "int8"


@relies_on("Keras", "FixedSeed", "`SeedGenerator._initial_seed`")
def test_fixed_seed():
    x = ops.ones((64,))

    def drop(*numbers):
        seed = internals.FixedSeed(ops.convert_to_tensor(numbers, "uint32"))
        return ops.convert_to_numpy(keras.random.dropout(x, 0.5, seed=seed))

    first = drop(1, 2)
    assert set(first) == {0.0, 2.0}
    np.testing.assert_array_equal(drop(1, 2), first)
    assert not np.array_equal(drop(1, 3), first)


# === Variables ===


@relies_on("Keras", "layout_of", "`Variable._layout`")
def test_layout_of():
    assert internals.layout_of(keras.Variable(np.ones(3))) is None
    if keras.config.backend() == "jax":
        with keras.distribution.DataParallel().scope():
            layout = internals.layout_of(keras.Variable(np.ones(3)))
        assert tuple(layout.axes) == (None,)


@relies_on("Keras", "replace_value", "`Variable._value`")
def test_replace_value():
    variable = keras.Variable(np.zeros(3, "float32"))
    previous = internals.replace_value(variable, np.ones(3, "float32"))
    np.testing.assert_array_equal(np.asarray(variable.value), np.ones(3))
    internals.replace_value(variable, previous)
    np.testing.assert_array_equal(variable.numpy(), np.zeros(3))
    variable.assign(np.full(3, 2.0))
    np.testing.assert_array_equal(variable.numpy(), np.full(3, 2.0))


# === Optimizers ===


def two_variables():
    return [keras.Variable(np.zeros(size, "float32")) for size in (3, 2)]


@relies_on("Keras", "trained_variables", "`Optimizer._trainable_variables`")
def test_trained_variables():
    variables = two_variables()
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    found = internals.trained_variables(optimizer)
    assert [id(v) for v in found] == [id(v) for v in variables]


@relies_on("Keras", "clip_gradients", "`Optimizer._clip_gradients`")
def test_clip_gradients():
    optimizer = keras.optimizers.SGD(global_clipnorm=1.0)
    gradients = [ops.convert_to_tensor([3.0]), None, ops.convert_to_tensor([4])]
    gradients[2] = ops.cast(gradients[2], "float32")
    a, b, c = internals.clip_gradients(optimizer, gradients)
    assert b is None
    found = [float(ops.convert_to_numpy(x)[0]) for x in (a, c)]
    np.testing.assert_allclose(found, [0.6, 0.8], rtol=1e-6)


@relies_on("Keras", "adam_moments", "`Adam._momentums`", "`Adam._velocities`")
def test_adam_moments():
    variables = two_variables()
    optimizer = keras.optimizers.Adam(beta_1=0.75, beta_2=0.9375)
    gradients = [ops.full((3,), 4.0), ops.full((2,), -8.0)]
    optimizer.apply(gradients, variables)
    # In another order than the optimizer's.
    moments, squares = internals.adam_moments(optimizer, variables[::-1])
    for found, expected in zip(
        [*moments, *squares],
        [[-2.0] * 2, [1.0] * 3, [4.0] * 2, [1.0] * 3],
        strict=True,
    ):
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected)


@relies_on("Keras", "OwnUpdateStep", "`Optimizer._backend_update_step`")
def test_own_update_step():
    calls = []

    class Recorded(internals.OwnUpdateStep, keras.optimizers.SGD):
        def update_all(self, gradients, variables, learning_rate):
            norms = [float(ops.norm(gradient)) for gradient in gradients]
            rate = float(ops.convert_to_numpy(learning_rate))
            calls.append((norms, [id(v) for v in variables], rate))
            if len(calls) == 1:
                super().update_all(gradients, variables, learning_rate)

    variables = two_variables()
    optimizer = Recorded(0.5, clipnorm=1.0)
    gradients = [ops.full((3,), 4.0), ops.full((2,), -8.0)]
    for _ in range(2):
        optimizer.apply(gradients, variables)
    norms, ids, rate = calls[0]
    np.testing.assert_allclose(norms, [1.0, 1.0], rtol=1e-6)
    assert ids == [id(v) for v in variables]
    assert rate == 0.5
    # One update by Keras, and one that was left out.
    expected = np.full(3, -0.5 / np.sqrt(3.0))
    np.testing.assert_allclose(variables[0].numpy(), expected, rtol=1e-6)


# === PyTorch ===


@relies_on("Keras", "agree_on_seed", "`distribution_lib.initialize_rng`")
def test_agree_on_seed():
    if keras.config.backend() != "jax":
        pytest.skip("about JAX")
    keras.utils.set_random_seed(3)
    expected = keras.random.normal((4,))
    keras.utils.set_random_seed(3)
    internals.agree_on_seed()  # A seed that is set stays.
    np.testing.assert_array_equal(keras.random.normal((4,)), expected)


@relies_on("Keras", "torch_distributes", "`keras.distribution` on PyTorch")
def test_torch_distributes():
    if keras.config.backend() != "torch":
        pytest.skip("about PyTorch")
    try:
        keras.distribution.list_devices()
    except AttributeError:
        assert not internals.torch_distributes()
    else:
        assert internals.torch_distributes()


@relies_on("PyTorch", "torch_fused_adam", "`torch._fused_adam_`")
def test_torch_fused_adam():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    weight, gradient, moment, square = rng.normal(size=(4, 5))
    square = square**2
    tensors = [
        torch.tensor(x, dtype=torch.float32)
        for x in (weight, gradient, moment, square)
    ]
    internals.torch_fused_adam(
        *([tensor] for tensor in tensors),
        torch.tensor(0.1),
        beta1=0.9,
        beta2=0.99,
        eps=1e-3,
    )
    moment = 0.9 * moment + 0.1 * gradient
    square = 0.99 * square + 0.01 * gradient**2
    weight = weight - 0.1 * moment / (np.sqrt(square) + 1e-3)
    for tensor, expected in zip(
        tensors, (weight, gradient, moment, square), strict=True
    ):
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-4)


# === Grain and TensorFlow Datasets ===


@pytest.mark.any_backend
@relies_on("Grain", "is_killed_worker", "the error of a killed process")
@relies_on("Grain", "prepare_grain_workers", "its use of absl's flags")
def test_grain_workers():
    from absl import flags

    flags.FLAGS.unparse_flags()
    internals.prepare_grain_workers()
    numbers = grain.MapDataset.range(10**6).to_iter_dataset()
    iterator = iter(
        numbers.mp_prefetch(
            grain.MultiprocessingOptions(1, per_worker_buffer_size=1)
        )
    )
    assert next(iterator) == 0
    children = multiprocessing.active_children()
    next(each for each in children if each.name.startswith("grain-")).kill()
    with pytest.raises(RuntimeError) as caught:
        for _ in range(1000):
            next(iterator)
    assert internals.is_killed_worker(caught.value)
    assert not internals.is_killed_worker(RuntimeError("out of memory"))


@pytest.mark.any_backend
@relies_on("TensorFlow Datasets", "dataset_not_found_error", "its error")
def test_dataset_not_found_error():
    tfds = pytest.importorskip("tensorflow_datasets")
    with pytest.raises(internals.dataset_not_found_error()):
        tfds.builder("no_such_dataset_of_that_name")


def test_without_initialization():
    def build():
        dense = layers.Dense(3)
        dense.build((None, 2))
        return layers.Dropout(0.5, seed=7), dense

    with relies_on(
        "Keras",
        "without_initialization",
        "`Variable._initialize_with_initializer`",
    ):
        with internals.without_initialization():
            dropout, dense = build()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                _, other = pool.submit(build).result()
        _, after = build()
        assert not np.any(ops.convert_to_numpy(dense.kernel))
        assert np.any(ops.convert_to_numpy(other.kernel))
        assert np.any(ops.convert_to_numpy(after.kernel))
        # The state of random numbers is no weight.
        state = ops.convert_to_numpy(dropout.seed_generator.state)
        np.testing.assert_array_equal(state, [7, 0])


@pytest.mark.any_backend
@relies_on("Keras", "initializing", "`Variable._initialize_with_initializer`")
def test_initializing():
    def change(variable, initializer):
        size = len(variable.shape)
        return lambda shape, dtype: ops.cast(size, dtype) + ops.zeros(shape)

    with internals.initializing(change):
        dense = layers.Dense(3)
        dense.build((None, 2))
    np.testing.assert_array_equal(dense.kernel, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(dense.bias, np.full((3,), 1.0))


@pytest.mark.any_backend
@relies_on("Keras", "SplitVariable", "`Variable._direct_assign`")
def test_split_variable():
    class Half(internals.SplitVariable):
        def split(self, value):
            return value / 2

        def join(self):
            return self.value * 2

    variable = keras.Variable(np.zeros(3, "float32"))
    variable.__class__ = Half
    variable.assign([2.0, 4.0, 6.0])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(variable.value), [1, 2, 3]
    )
    np.testing.assert_array_equal(variable.numpy(), [2, 4, 6])
    np.testing.assert_array_equal(ops.convert_to_numpy(variable), [2, 4, 6])


def test_every_name_has_a_test():
    names = {
        name
        for name, value in vars(internals).items()
        if getattr(value, "__module__", None) == internals.__name__
    }
    assert names == TESTED


def test_a_failure_names_the_library():
    def failing():
        raise AttributeError("_private")

    test = relies_on("Keras", "no_such_name", "`Model._private`")(failing)
    TESTED.discard("no_such_name")
    with pytest.raises(pytest.fail.Exception, match="Keras changed `Model._"):
        test()


def test_a_backbone_runs_its_own_graph():
    backbone = randomize(make_backbone())
    x = {
        "noisy_images": np.ones((2, 4, 4, 1), "float32"),
        "log_snr": np.zeros(2, "float32"),
        "labels": np.zeros(2, "int32"),
    }
    kept = internals.OwnGraphRun.run_layers(backbone, x, lambda layer: layer)
    np.testing.assert_allclose(
        ops.convert_to_numpy(backbone(x)), ops.convert_to_numpy(kept), atol=1e-6
    )
