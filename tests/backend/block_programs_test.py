import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_simple_diffusion.backend.block_programs import BlockPrograms
from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.layers import TransformerBlock
from keras_simple_diffusion.models import UViTBackbone


@pytest.fixture(autouse=True)
def traced_only(monkeypatch):
    """Let PyTorch trace programs, whole, but not generate code for them."""
    if keras.config.backend() != "torch":
        pytest.skip("other backends compile whole steps")
    import torch

    trace = functools.partial(
        torch.compile, backend="aot_eager", fullgraph=True
    )
    monkeypatch.setattr(torch, "compile", trace)


def make_network(**kwargs):
    keras.utils.set_random_seed(0)
    network = UViTBackbone(
        image_shape=(8, 8, 1),
        channels=(4, 8),
        **{"blocks": (1, 2), **kwargs},
        embedding_dim=8,
        num_heads=2,
        num_classes=3,
    )
    for weight in network.weights:  # Some are zero at first.
        weight.assign(keras.random.normal(weight.shape))
    return network


def make_inputs(batch_size=2):
    rng = np.random.default_rng(0)
    return {
        "noisy_images": ops.convert_to_tensor(
            rng.normal(size=(batch_size, 8, 8, 1)).astype("float32")
        ),
        "log_snr": ops.linspace(-1.0, 1.0, batch_size),
        "labels": ops.arange(batch_size, dtype="int32"),
    }


def output_and_gradients(network, inputs, programs=None):
    network.zero_grad()
    if programs is None:
        output = network(inputs, training=True)
    else:
        with programs.running():
            output = network(inputs, training=True)
    ops.mean(ops.square(output)).backward()
    gradients = [w.value.grad.clone() for w in network.trainable_weights]
    return [output.detach(), *gradients]


@pytest.mark.parametrize("rematerialize", [(), ("residual", "transformer")])
def test_programs_compute_the_same(rematerialize):
    network, inputs = make_network(rematerialize=rematerialize), make_inputs()
    expected = output_and_gradients(network, inputs)
    programs = BlockPrograms()
    found = output_and_gradients(network, inputs, programs)
    assert len(found) == 1 + len(network.trainable_weights)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # Residual blocks with and without a skip, and transformer blocks.
    assert len(programs) == 3


def test_drawing_runs_programs_with_other_weights():
    network = make_network(blocks=(1, 1), dropout=(0.0, 0.1))
    inputs = make_inputs()
    values = [w.value.detach().clone() for w in network.variables]
    expected = network(inputs, training=False).detach()
    draw = compile_function(network, network.variables, jit_compile=True)
    for weight in network.weights:
        weight.assign(ops.zeros_like(weight))
    np.testing.assert_allclose(
        draw(inputs, values=values), expected, rtol=1e-4, atol=1e-5
    )


def test_blocks_with_dropout_are_trained_without_programs():
    """Random numbers would otherwise be drawn without moving the seed."""
    network = make_network(blocks=(1, 1), dropout=(0.5, 0.5))
    programs = BlockPrograms()
    seeds = [v for v in network.variables if "seed" in v.path]
    before = [np.array(ops.convert_to_numpy(seed)) for seed in seeds]
    output_and_gradients(network, make_inputs(), programs)
    assert len(seeds) == 4
    for seed, old in zip(seeds, before, strict=True):
        assert (ops.convert_to_numpy(seed) != old).any()


def test_replaced_weights_are_read(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "compile", lambda function: function)
    keras.utils.set_random_seed(0)
    blocks = [TransformerBlock(2) for _ in range(2)]
    for block in blocks:
        block.build((None, 2, 2, 8), (None, 8))
        for weight in block.weights:
            weight.assign(keras.random.normal(weight.shape))
    inputs = keras.random.normal((1, 2, 2, 8)), keras.random.normal((1, 8))
    programs = BlockPrograms()

    def check():
        for block in blocks:
            call = programs.call_of(block, lambda layer: layer)
            np.testing.assert_array_equal(call(*inputs), block(*inputs))

    with torch.no_grad():
        check()
        for block in blocks:
            for layer in block._flatten_layers():
                if type(layer).__name__ == "Dense":
                    layer.quantize("int8")
        check()


def test_configuration_and_weights_decide_the_kind():
    programs = BlockPrograms()
    for heads, channels in ((2, 8), (4, 8), (2, 16), (2, 8)):
        block = TransformerBlock(heads)
        block.build((None, 4, 4, channels), (None, 8))
        programs.call_of(block, lambda layer: layer)
    assert len(programs) == 3


def test_drawing_does_not_compile_the_training_again(monkeypatch):
    import torch

    traced = []

    def backend(module, example_inputs):
        traced.append(module)
        return module.forward

    trace = functools.partial(torch.compile.func, fullgraph=True)
    monkeypatch.setattr(
        torch, "compile", functools.partial(trace, backend=backend)
    )
    network, inputs = make_network(), make_inputs()
    programs = BlockPrograms()

    def train():
        return output_and_gradients(network, inputs, programs)

    train()
    train()
    count = len(traced)
    assert count
    draw = compile_function(network, network.variables, True)
    draw(inputs)
    drawn = len(traced)
    train()
    assert len(traced) == drawn
