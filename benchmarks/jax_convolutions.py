"""Compare XLA's gradients of 3x3 convolutions on a CPU with matrix products.

    KERAS_BACKEND=jax python benchmarks/jax_convolutions.py

The shapes are those of the small U-ViT with 8 images, and one further. Printed
are billions of multiply-accumulates per second of the processor, on one thread:
of one matrix product of as many operations, of the convolution, and of its
gradients. The kernel's gradient is also written as 9 matrix products, and as
one of all 9 shifted feature maps joined.
"""

import os
import sys
import time

os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = ((8, 64, 32), (8, 32, 64), (8, 16, 128))  # Images, size, channels.
ROUNDS = 5


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def input_gradient(x, kernel, g):
    return jax.vjp(lambda x: convolve(x, kernel), x)[1](g)[0]


def kernel_gradient(x, kernel, g):
    return jax.vjp(lambda kernel: convolve(x, kernel), kernel)[1](g)[0]


def shifted(x):
    """The feature maps that each of the 9 weights of a kernel sees."""
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [
        x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    ]


def nine_products(x, kernel, g):
    channels = x.shape[-1]
    g = g.reshape(-1, channels)
    parts = [part.reshape(-1, channels).T @ g for part in shifted(x)]
    return jnp.stack(parts).reshape(kernel.shape)


def one_product(x, kernel, g):
    channels = x.shape[-1]
    columns = jnp.concatenate(shifted(x), -1).reshape(-1, 9 * channels)
    return (columns.T @ g.reshape(-1, channels)).reshape(kernel.shape)


def rate(function, arguments, macs):
    """Billions of multiply-accumulates per second of the processor."""
    function = jax.jit(function)
    result = function(*arguments).block_until_ready()
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        function(*arguments).block_until_ready()
        seconds.append(time.process_time() - started)
    return macs / np.median(seconds) / 1e9, result


def main():
    rng = np.random.default_rng(0)
    for images, size, channels in SHAPES:
        macs = images * size**2 * 9 * channels**2
        x, g = (
            jnp.array(
                rng.normal(size=(images, size, size, channels)), "float32"
            )
            for _ in range(2)
        )
        kernel = jnp.array(rng.normal(size=(3, 3, channels, channels)))
        kernel = kernel.astype("float32")
        side = round(macs ** (1 / 3))
        square = jnp.ones((side, side))
        found = {
            "matrix product": rate(jnp.matmul, (square, square), side**3),
            "convolution": rate(convolve, (x, kernel), macs),
        }
        for function in (
            input_gradient,
            kernel_gradient,
            nine_products,
            one_product,
        ):
            name = function.__name__.replace("_", " ")
            found[name] = rate(function, (x, kernel, g), macs)
        for name in ("nine products", "one product"):
            expected = found["kernel gradient"][1]
            error = jnp.abs(found[name][1] - expected).max()
            if error > 1e-3 * jnp.abs(expected).max():
                sys.exit(f"The {name} are another gradient.")
        rates = ", ".join(f"{name} {r:.1f}" for name, (r, _) in found.items())
        print(f"{size} x {size}, {channels} channels: {rates}", flush=True)


if __name__ == "__main__":
    main()
