import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

SHAPES = [(4, 3), (3,), (3, 3, 2, 2)]
BETAS = (0.8, 0.95)
EPSILON = 1e-2


def steps():
    rng = np.random.default_rng(0)
    for _ in range(4):
        yield [rng.normal(size=s).astype("float32") for s in SHAPES]


def adam(weights, rate):
    """Kingma and Ba, algorithm 1, with epsilon as Keras has it."""
    moments = [np.zeros_like(w) for w in weights]
    squares = [np.zeros_like(w) for w in weights]
    for t, grads in enumerate(steps(), 1):
        alpha = rate * np.sqrt(1 - BETAS[1] ** t) / (1 - BETAS[0] ** t)
        for w, g, m, s in zip(weights, grads, moments, squares, strict=True):
            m += (1 - BETAS[0]) * (g - m)
            s += (1 - BETAS[1]) * (g * g - s)
            w -= alpha * m / (np.sqrt(s) + EPSILON)
    return weights


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_updates_are_those_of_the_paper(kind):
    rng = np.random.default_rng(1)
    starts = [rng.normal(size=s).astype("float32") for s in SHAPES]
    weights = [keras.Variable(start, name="w") for start in starts]
    arguments = {"weight_decay": 0.0} if kind == "AdamW" else {}
    optimizer = getattr(ksd.optimizers, kind)(
        0.05,
        beta_1=BETAS[0],
        beta_2=BETAS[1],
        epsilon=EPSILON,
        **arguments,
    )
    for grads in steps():
        optimizer.apply([ops.convert_to_tensor(g) for g in grads], weights)
    expected = adam([start.copy() for start in starts], 0.05)
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(weight), value, atol=1e-6
        )


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="PyTorch's compiler"
)
def test_update_can_be_compiled():
    import torch

    def trained(compiled):
        weight = keras.Variable(np.ones((3, 2), "float32"), name="w")
        optimizer = ksd.optimizers.Adam(0.1)
        optimizer.build([weight])

        def step(grad):
            with torch.no_grad():
                optimizer.apply([grad], [weight])

        if compiled:
            step = torch.compile(step, backend="aot_eager")
        for value in (0.5, -0.2):
            step(torch.full((3, 2), value))
        return ops.convert_to_numpy(weight)

    np.testing.assert_allclose(trained(True), trained(False), atol=1e-6)
