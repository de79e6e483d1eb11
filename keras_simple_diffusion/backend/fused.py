"""Operations with a fused PyTorch kernel; JAX and TensorFlow fuse by compiling.

Without a compiler each operation reads and writes all of its tensors. On
PyTorch Keras adds biases in a separate pass, copies the input of a
convolution twice to change its layout, and updates weights and averages in
ten passes.
"""

import keras
from keras import ops

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend.compilation import operations_run_one_by_one
from keras_simple_diffusion.backend.keras_internals import FixedSeed
from keras_simple_diffusion.backend.replicas import held


def _is_torch():
    return keras.config.backend() == "torch"


def dense(x, kernel, bias):
    """Compute `x kernel + bias`.

    Args:
        x: float tensor of shape `(..., C)`.
        kernel: float tensor or variable of shape `(C, D)`.
        bias: float tensor or variable of shape `(D,)`.

    Returns:
        A tensor of shape `(..., D)`.
    """
    if not _is_torch():
        return ops.matmul(x, kernel) + bias
    from torch.nn.functional import linear

    kernel = ops.convert_to_tensor(kernel)
    return linear(x, kernel.T, ops.convert_to_tensor(bias))


def convolve(x, kernel, bias, stride):
    """Convolve feature maps, padded with zeros so that strides divide them.

    Args:
        x: float tensor of shape `(B, H, W, C)`.
        kernel: float tensor or variable of shape `(size, size, C, D)`.
        bias: float tensor or variable of shape `(D,)`.
        stride: int, either 1 with an odd size, or the size.

    Returns:
        A tensor of shape `(B, H / stride, W / stride, D)`.
    """
    if not _is_torch():
        y = ops.conv(x, kernel, stride, "same", data_format="channels_last")
        return y + bias
    from torch.nn.functional import conv2d

    kernel = ops.convert_to_tensor(kernel).permute(3, 2, 0, 1)
    if x.shape[0] == 1:
        # For one small image PyTorch differentiates no other layout on a CPU.
        kernel = kernel.contiguous()
    y = conv2d(
        x.permute(0, 3, 1, 2),
        kernel,
        ops.convert_to_tensor(bias),
        stride,
        kernel.shape[2] // 2 if stride == 1 else 0,
    )
    return y.permute(0, 2, 3, 1)


def scale_and_shift(x, scale, shift):
    """Compute `x (1 + scale) + shift`.

    Args:
        x: float tensor.
        scale: float tensor that broadcasts to `x`, of its dtype.
        shift: float tensor that broadcasts to `x`, of its dtype.

    Returns:
        A tensor shaped like `x`.
    """
    if not _is_torch():
        return x * (1.0 + scale) + shift
    import torch

    return torch.addcmul(shift, x, 1.0 + scale)


def attend(queries, keys, values, mask=None):
    """Compute multi-head attention, with the softmax in float32.

    Args:
        queries: float tensor of shape `(B, heads, N, d)`, already scaled.
        keys: float tensor of shape `(B, heads, M, d)`.
        values: float tensor of shape `(B, heads, M, d)`.
        mask: optional bool tensor of shape `(B, M)`, `False` for masked keys.
            Where all keys are masked the result is zero.

    Returns:
        A tensor shaped like `queries`.
    """
    if mask is not None:
        mask = ops.expand_dims(ops.expand_dims(mask, 1), 1)
    if _is_torch():
        return _attend_torch(queries, keys, values, mask)
    scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
    scores = ops.cast(scores, "float32")
    if mask is not None:
        scores = ops.where(mask, scores, -1e9)
    weights = ops.softmax(scores, axis=-1)
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)
    return ops.matmul(ops.cast(weights, values.dtype), values)


def _attend_torch(queries, keys, values, mask):
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if mask is None:
        return scaled_dot_product_attention(queries, keys, values, scale=1.0)
    # Finite, so that a softmax over masked keys only is defined.
    lowest = torch.finfo(queries.dtype).min / 2
    bias = torch.where(mask, 0.0, lowest).to(queries.dtype)
    h = scaled_dot_product_attention(queries, keys, values, bias, scale=1.0)
    return h * mask.any(dim=-1, keepdim=True)


def dropout_mask(shape, dtype, rate, seed):
    """Draw the features that `keras.random.dropout` would keep.

    On PyTorch random numbers take longer than all that is done with them, so
    masks are kept for the gradient.

    Args:
        shape: tuple of ints, or of scalar tensors.
        dtype: dtype of the features; TensorFlow's masks depend on it.
        rate: float. Fraction of the features to drop.
        seed: int tensor of shape `(2,)`.

    Returns:
        A bool tensor of that shape, `False` for features to drop.
    """
    if not _is_torch():
        ones = ops.ones(shape, dtype)
        return keras.random.dropout(ones, rate, seed=FixedSeed(seed)) > 0.0
    import torch

    mask = torch.empty(shape, dtype=torch.bool, device=seed.device)
    if mask.is_meta:
        return mask
    generator = torch.Generator(seed.device)
    generator.manual_seed(int(seed[0] + seed[1]) & 0xFFFFFFFF)
    kept = torch.full(shape, 1.0 - rate, device=seed.device)
    return mask.bernoulli_(kept, generator=generator)


def move_towards(variable, target, share):
    """Interpolate a variable towards a tensor, in place.

    Args:
        variable: a `keras.Variable`, not trained by gradients.
        target: float tensor of its shape and dtype.
        share: float scalar tensor in `[0, 1]`; 1 copies the target.
    """
    if _is_torch():
        value, target = held([variable.value.detach(), target.detach()])
        value.lerp_(target, share)
    else:
        variable.assign(variable + share * (target - variable))


def has_fused_adam():
    """Tell if `update_by_adam` is available, and faster than Keras's Adam."""
    return operations_run_one_by_one()


def update_by_adam(weights, grads, moments, squares, rate, betas, epsilon):
    """Update all weights by Adam, by one kernel for each of their dtypes.

    Only where `has_fused_adam()`: `m = b1 m + (1 - b1) g; s = b2 s + (1 - b2)
    g^2; w -= rate m / (sqrt(s) + epsilon)`.

    Args:
        weights: list of `keras.Variable`s.
        grads: list of tensors.
        moments: list of `keras.Variable`s, `m`.
        squares: list of `keras.Variable`s, `s`.
        rate: float scalar tensor, the learning rate times the correction of
            the moments' bias.
        betas: tuple of two floats.
        epsilon: float.
    """
    weights, moments, squares = (
        held([variable.value.detach() for variable in variables])
        for variables in (weights, moments, squares)
    )
    grads = [
        grad.detach().to(weight.dtype).contiguous()
        for grad, weight in zip(held(grads), weights, strict=True)
    ]
    rows = list(zip(weights, grads, moments, squares, strict=True))
    for dtype in {weight.dtype for weight in weights}:
        # On a GPU a kernel takes lists of one dtype.
        alike = [row for row in rows if row[0].dtype == dtype]
        keras_internals.torch_fused_adam(
            *map(list, zip(*alike, strict=True)),
            rate.detach().float(),
            beta1=betas[0],
            beta2=betas[1],
            eps=epsilon,
        )
