"""Checks that hold for every network."""

import keras
import keras_hub
import numpy as np

from keras_simple_diffusion.layers.protocol import check_layouts
from keras_simple_diffusion.models.cost import matrix_products
from tests.helpers.models import randomize


def inputs_of(backbone, count=2, length=5, seed=0):
    """Return random inputs by name; the last text ends with padding."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(count, *shape)).astype("float32")

    inputs = {
        "noisy_images": normal(*backbone.image_shape),
        "log_snr": rng.uniform(-5, 5, count).astype("float32"),
    }
    if backbone.num_classes is not None:
        inputs["labels"] = np.arange(count, dtype="int32")
    if backbone.context_dim is not None:
        inputs["context"] = normal(length, backbone.context_dim)
        inputs["context_mask"] = np.ones((count, length), "int32")
        inputs["context_mask"][-1, 3:] = 0
    if backbone.portrait_flag:
        inputs["portrait"] = np.arange(count, dtype="int32") % 2
    if backbone.guidance_range is not None:
        low, high = backbone.guidance_range
        inputs["guidance_scale"] = np.linspace(
            low, high, count, dtype="float32"
        )
    return inputs


def run_backbone_test(make, folder):
    """Check what holds for every backbone.

    It starts at zero; every input and weight has an effect; it is saved by its
    configuration and as a preset; its ends stay float32 in mixed precision;
    its cost and layouts cover every kernel.

    Args:
        make: Function that builds a small backbone; it takes `dtype`.
        folder: Path of an empty folder.
    """
    backbone = make()
    inputs = inputs_of(backbone)
    assert sorted(backbone.input) == sorted(inputs)

    output = backbone.predict_on_batch(inputs)
    assert output.shape == inputs["noisy_images"].shape
    assert output.dtype == "float32"
    np.testing.assert_array_equal(output, 0.0)

    randomize(backbone)
    output = backbone.predict_on_batch(inputs)
    assert 1e-3 < output.std() < 100
    _check_inputs(backbone, inputs, output)
    _check_weights(backbone, inputs, output)
    _check_saving(backbone, inputs, output, folder)
    _check_mixed_precision(make, inputs, output)
    _check_cost(backbone)
    _check_layouts(backbone)


def _check_inputs(backbone, inputs, output):
    changes = {
        "noisy_images": inputs["noisy_images"] + 0.1,
        "log_snr": inputs["log_snr"] + 0.1,
    }
    if "labels" in inputs:
        changes["labels"] = inputs["labels"] + 2
        # The null label has a vector of its own.
        null = np.full_like(inputs["labels"], backbone.num_classes)
        changes["labels null"] = null
    if "context" in inputs:
        changes["context"] = inputs["context"] + 0.1
        changes["context_mask"] = np.ones_like(inputs["context_mask"])
    if "portrait" in inputs:
        changes["portrait"] = 1 - inputs["portrait"]
    if "guidance_scale" in inputs:
        changes["guidance_scale"] = inputs["guidance_scale"] + 0.1
    for name, changed in changes.items():
        found = backbone.predict_on_batch({**inputs, name.split()[0]: changed})
        assert np.abs(found - output).max() > 1e-3, name


def _check_weights(backbone, inputs, output):
    unused = []
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        value = keras.ops.convert_to_numpy(weight).copy()
        weight.assign(value + rng.normal(size=value.shape))
        found = backbone.predict_on_batch(inputs)
        weight.assign(value)
        if np.abs(found - output).max() < 1e-5:
            unused.append(weight.path)
    # The same vector added to all keys changes all scores of a query alike.
    assert all("norm_k/beta" in path for path in unused), unused


def _check_saving(backbone, inputs, output, folder):
    config = keras.saving.serialize_keras_object(backbone)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(backbone)
    assert copy.get_config() == backbone.get_config()
    paths = [weight.path for weight in backbone.weights]
    assert [weight.path for weight in copy.weights] == paths

    backbone.save_to_preset(str(folder))
    copy = keras_hub.models.Backbone.from_preset(str(folder))
    assert type(copy) is type(backbone)
    for weight, loaded in zip(backbone.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(loaded),
            keras.ops.convert_to_numpy(weight),
        )
    copy = type(backbone).from_preset(str(folder))
    np.testing.assert_array_equal(copy.predict_on_batch(inputs), output)


def _check_mixed_precision(make, inputs, output):
    mixed = randomize(make(dtype="mixed_bfloat16"))
    assert mixed.get_config()["dtype"]["config"]["name"] == "mixed_bfloat16"
    # In bfloat16 these would be one number.
    a, b = (
        mixed.predict_on_batch(
            {**inputs, "log_snr": np.full(2, log_snr, "float32")}
        )
        for log_snr in (10.00, 10.02)
    )
    assert a.dtype == "float32" and np.abs(a - b).max() > 0
    error = mixed.predict_on_batch(inputs) - output
    assert np.sqrt((error**2).mean()) < 0.05 * output.std()


def _check_cost(backbone):
    products = matrix_products(backbone, context_length=7)
    kernels = sum(
        int(np.prod(weight.shape))
        for weight in backbone.weights
        if weight.name == "kernel"
    )
    assert sum(product.weights for product in products) == kernels
    if keras.config.backend() == "torch":
        macs = sum(product.macs for product in products)
        assert macs == _torch_macs(backbone, 7)


def _torch_macs(backbone, context_length):
    """Count multiply-accumulates by PyTorch's own counter."""
    import torch
    from torch.nn import attention
    from torch.utils.flop_counter import FlopCounterMode

    inputs = inputs_of(backbone, 1, context_length)
    # The kernels of attention on CPUs are not counted.
    with (
        torch.no_grad(),
        attention.sdpa_kernel(attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        backbone(inputs)
    return counter.get_total_flops() / 2


def _check_layouts(backbone):
    cls = type(backbone)
    check_layouts(backbone.layers, cls.layer_types)
    devices = [f"cpu:{i}" for i in range(2)]
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"), devices)
    layout_map = cls.get_layout_map(mesh)
    for variable in backbone.variables:
        layout = layout_map[variable.path]
        if layout is not None:
            assert len(layout.axes) == len(variable.shape), variable.path
