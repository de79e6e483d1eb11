import weakref

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.backend.compilation import run_graph


def test_outputs_are_those_of_keras():
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    a = layers.Dense(4)(x)
    b = layers.Dense(4)(layers.Add()([a, y]))
    outputs = {"sum": layers.Add()([a, b]), "last": layers.Dense(2)(b), "a": a}
    model = keras.Model({"x": x, "y": y}, outputs)
    rng = np.random.default_rng(0)
    inputs = {
        k: ops.convert_to_tensor(rng.normal(size=(3, 4)).astype("float32"))
        for k in "xy"
    }
    found = run_graph(model, inputs, lambda layer: layer)
    for name, expected in model(inputs).items():
        np.testing.assert_allclose(
            ops.convert_to_numpy(found[name]), ops.convert_to_numpy(expected)
        )


def test_lets_go_of_what_is_not_needed():
    if keras.config.backend() != "torch":
        pytest.skip("elsewhere the layers run as one program")
    import torch

    alive, counts = weakref.WeakSet(), []

    class Tensor:
        """Lives as long as the tensor that it is an attribute of."""

    class Watched(layers.Layer):
        def call(self, x):
            y = x + 1.0
            y.watch = Tensor()
            alive.add(y.watch)
            counts.append(len(alive))
            return y

    x = inputs = keras.Input((4,))
    skip = x = Watched()(x)
    for _ in range(5):
        x = Watched()(x)
    model = keras.Model(inputs, layers.Add()([x, skip]))
    alive.clear()  # What was made while the graph was built.
    counts.clear()
    with torch.no_grad():
        run_graph(model, [ops.zeros((2, 4))], lambda layer: layer)
    assert max(counts) <= 3  # The skip, the input and the output.


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_program_is_traced_once_or_runs_eagerly(run_eagerly):
    calls = []

    def double(x):
        calls.append(x)
        return 2 * x

    function = compile_function(double, [], False, run_eagerly)
    for value in (1.0, 2.0, 3.0):
        found = function(ops.full((2,), value))
        assert ops.convert_to_numpy(found).tolist() == [2 * value] * 2
    is_eager = run_eagerly and keras.config.backend() == "tensorflow"
    is_traced = keras.config.backend() != "torch" and not is_eager
    assert len(calls) == (1 if is_traced else 3)


def test_many_programs_are_no_warning(caplog):
    for size in range(1, 9):
        double = compile_function(lambda x: 2 * x, [], jit_compile=False)
        assert ops.convert_to_numpy(double(ops.ones(size))).sum() == 2 * size
    assert not caplog.records
