import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.optimizers.construction import wrap_optimizer
from keras_simple_diffusion.optimizers.wrapper import unwrap

WatchedOptimizer = ksd.optimizers.WatchedOptimizer


def watched(inner, **kwargs):
    optimizer = wrap_optimizer(inner, decay=0.9, watch=True, **kwargs)
    found = ksd.optimizers.find_optimizer(optimizer, WatchedOptimizer)
    return optimizer, found


def variable(*values):
    return keras.Variable(np.array(values, "float32"), name=f"v{len(values)}")


def step(optimizer, *grads):
    grads = [
        None if grad is None else ops.convert_to_tensor(grad, dtype="float32")
        for grad in grads
    ]
    optimizer.apply(grads)


@pytest.mark.parametrize("accumulation", [None, 2])
def test_norms(accumulation):
    inner = keras.optimizers.SGD(
        0.1, global_clipnorm=1.0, gradient_accumulation_steps=accumulation
    )
    optimizer, watch = watched(inner)
    weights = [variable(1.0, 2.0), variable(3.0, 4.0, 5.0)]
    optimizer.build(weights)
    for _ in range(2):
        step(optimizer, [3.0, 0.0], [0.0, 4.0, 12.0])
    report = watch.report()
    assert report["gradient_norm"] == pytest.approx(13.0)
    values = [ops.convert_to_numpy(w) for w in weights]
    norm = np.sqrt(sum((v.astype("float64") ** 2).sum() for v in values))
    assert report["parameter_norm"] == pytest.approx(norm)
    assert norm != pytest.approx(np.sqrt(55.0))
    assert report["first_bad_step"] == -1
    assert {v.shape for v in watch.variables[:6]} == {()}


@pytest.mark.parametrize("bad, accumulation", [(np.nan, None), (np.inf, 2)])
def test_first_bad_step_stays(bad, accumulation):
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulation)
    optimizer, watch = watched(inner)
    optimizer.build([variable(1.0, 2.0), variable(3.0, 4.0, 5.0)])
    for value in (1.0, 1.0, 1.0, bad, 1.0, bad):
        step(optimizer, [value, 0.0], [0.0, 1.0, 1.0])
    assert watch.report()["first_bad_step"] == 3


def test_a_norm_that_overflows_is_no_failure():
    optimizer, watch = watched(keras.optimizers.SGD(0.0))
    optimizer.build([variable(1.0, 2.0)])
    step(optimizer, [1e30, 1e30])
    assert watch.report()["first_bad_step"] == -1


def test_weights_that_are_not_finite_are_a_failure():
    optimizer, watch = watched(keras.optimizers.SGD(3e38))
    optimizer.build([variable(1.0, 2.0)])
    step(optimizer, [2.0, 2.0])
    assert watch.report()["first_bad_step"] == 0


def test_steps_that_loss_scaling_skips_are_no_failures():
    optimizer, watch = watched(keras.optimizers.SGD(0.1), scale_loss=True)
    kinds = [type(each).__name__ for each in unwrap(optimizer)]
    assert kinds == [
        "LossScaleOptimizer",
        "AveragedOptimizer",
        "WatchedOptimizer",
        "SGD",
    ]
    weights = [variable(1.0, 2.0)]
    optimizer.build(weights)
    scale = float(ops.convert_to_numpy(optimizer.dynamic_scale))
    for value in (1.0, np.inf, 1.0):
        if keras.backend.backend() == "jax":
            # As the training step does: `ops.cond` needs it there.
            values, state = optimizer.stateless_apply(
                [v.value for v in optimizer.variables],
                [ops.convert_to_tensor([scale * value, 0.0])],
                [w.value for w in weights],
            )
            for v, new in zip(optimizer.variables, state, strict=True):
                v.assign(new)
            weights[0].assign(values[0])
        else:
            step(optimizer, [scale * value, 0.0])
        scale = float(ops.convert_to_numpy(optimizer.dynamic_scale))
    assert watch.report()["first_bad_step"] == -1
    assert watch.report()["gradient_norm"] == pytest.approx(1.0)
    assert int(ops.convert_to_numpy(watch.num_steps)) == 2


def test_in_the_compiled_step(fit):
    optimizer, watch = watched(keras.optimizers.SGD(0.05))
    model, history = fit(optimizer, epochs=2, jit_compile=None)
    # The last step of plain gradient descent, backwards.
    change = [a - b for a, b in zip(*history[-2:], strict=True)]
    norm = np.sqrt(sum((c**2).sum() for c in change)) / 0.05
    report = watch.report()
    assert report["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert report["first_bad_step"] == -1
    assert int(ops.convert_to_numpy(watch.num_steps)) == 16


def test_save_and_load(fit, tmp_path):
    optimizer, _ = watched(keras.optimizers.Adam(0.05))
    model, _ = fit(optimizer)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert [type(o) for o in unwrap(copy.optimizer)] == [
        type(o) for o in unwrap(optimizer)
    ]
    for a, b in zip(copy.optimizer.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        )
