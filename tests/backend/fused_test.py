import keras
import numpy as np
import pytest
from keras import ops

from keras_simple_diffusion.backend import fused
from keras_simple_diffusion.backend.keras_internals import FixedSeed


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def close(actual, expected, tolerance=1e-5):
    actual = ops.convert_to_numpy(actual)
    np.testing.assert_allclose(actual, expected, atol=tolerance)


def tensors(*arrays):
    return [ops.convert_to_tensor(array) for array in arrays]


def test_dense():
    x, kernel, bias = normal(2, 3, 4), normal(4, 5), normal(5)
    close(fused.dense(*tensors(x, kernel, bias)), x @ kernel + bias)


@pytest.mark.parametrize("size, stride", [(3, 1), (2, 2), (4, 4)])
def test_convolve(size, stride):
    x = normal(2, 8, 12, 3)
    kernel, bias = normal(size, size, 3, 5), normal(5)
    margin = size // 2 if stride == 1 else 0
    padded = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (size, size), (1, 2)
    )[:, ::stride, ::stride]
    expected = np.einsum("bhwcij,ijcd->bhwd", windows, kernel) + bias
    close(fused.convolve(*tensors(x, kernel, bias), stride), expected)


@pytest.mark.any_backend
@pytest.mark.parametrize("size, stride", [(3, 1), (2, 2)])
def test_the_gradient_of_one_gray_image(size, stride):
    x, kernel = normal(1, 8, 8, 4), keras.Variable(normal(size, size, 4, 1))
    (bias,) = tensors(np.zeros(1, "float32"))
    y = fused.convolve(*tensors(x), kernel, bias, stride)
    y.sum().backward()
    # The sum of all that one element of the kernel is multiplied with.
    first = kernel.value.grad.numpy()[(size - 1) // 2, (size - 1) // 2, :, 0]
    close(first, x[:, ::stride, ::stride].sum((0, 1, 2)), 1e-4)


def test_scale_and_shift():
    x, scale, shift = normal(2, 3, 3, 4), normal(2, 1, 1, 4), normal(1, 4)
    expected = x * (1.0 + scale) + shift
    close(fused.scale_and_shift(*tensors(x, scale, shift)), expected)


def attention(q, k, v, mask):
    scores = np.exp(q @ k.swapaxes(-1, -2)) * mask[:, None, None]
    total = scores.sum(-1, keepdims=True)
    return scores / np.where(total == 0.0, 1.0, total) @ v


@pytest.mark.parametrize(
    "dtype, tolerance", [("float32", 1e-5), ("float16", 0.01)]
)
def test_attend(dtype, tolerance):
    q, k, v = normal(3, 2, 5, 4), normal(3, 2, 7, 4, seed=1), normal(3, 2, 7, 4)
    mask = np.ones((3, 7), bool)
    mask[1, 4:] = False
    mask[2] = False
    half = [ops.cast(x, dtype) for x in (q, k, v)]
    close(fused.attend(*half), attention(q, k, v, mask[:1]), tolerance)
    masked = fused.attend(*half, ops.convert_to_tensor(mask))
    close(masked, attention(q, k, v, mask), tolerance)
    assert not ops.convert_to_numpy(masked)[2].any()


def test_move_towards():
    start, target = normal(4, 3), normal(4, 3, seed=1)
    variable = keras.Variable(start, trainable=False)
    fused.move_towards(variable, *tensors(target, np.float32(0.25)))
    close(variable, 0.75 * start + 0.25 * target)


def test_dropout_masks_are_those_of_keras():
    seed = ops.convert_to_tensor(
        [3, 4], keras.random.SeedGenerator().state.dtype
    )
    x = ops.convert_to_tensor(1.0 + normal(3, 5, 70) ** 2)
    dropped = keras.random.dropout(x, 0.3, seed=FixedSeed(seed))
    mask = fused.dropout_mask((3, 5, 70), "float32", 0.3, seed)
    close(dropped, ops.where(mask, x / 0.7, 0.0))
    assert 0.6 < ops.convert_to_numpy(mask).mean() < 0.8
