import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend import keras_internals
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import randomize
from tests.helpers.models import values_of

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
    keras.config.backend() != "torch", reason="PyTorch's kernel"
)
def test_a_kernel_updates_weights_of_one_dtype(monkeypatch):
    kinds = []
    update = keras_internals.torch_fused_adam

    def noted(*lists, **options):
        kinds.append({t.dtype for tensors in lists[:4] for t in tensors})
        update(*lists, **options)

    monkeypatch.setattr(keras_internals, "torch_fused_adam", noted)
    keras.config.set_dtype_policy("bfloat16")  # The first layer is float32.
    model = make_model(ema_decay=None)
    model.compile(ksd.optimizers.Adam(0.1, beta_2=0.99), ema_decay=None)
    randomize(model.backbone)
    before = values_of(model.trainable_variables)
    model.train_on_batch(make_data(4))
    model.train_on_batch(make_data(4))
    assert len(kinds) == 4 and all(len(kind) == 1 for kind in kinds)
    for start, end in zip(
        before, values_of(model.trainable_variables), strict=True
    ):
        assert (start != end).any()


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
