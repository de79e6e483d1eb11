"""Keras's dense layer and convolution, with the bias in the same kernel."""

from keras import layers

from keras_simple_diffusion.backend.fused import convolve
from keras_simple_diffusion.backend.fused import dense
from keras_simple_diffusion.backend.keras_internals import QuantizableSubclass


class Dense(QuantizableSubclass, layers.Dense):
    """`keras.layers.Dense` with a bias."""

    def call(self, inputs, training=None):
        return self.activation(dense(inputs, self.kernel, self.bias))


class Conv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with a bias, channels last and zero padding.

    The strides are 1, or the size of the kernel.
    """

    def __init__(self, filters, kernel_size, **kwargs):
        kwargs.update(padding="same", data_format="channels_last")
        super().__init__(filters, kernel_size, **kwargs)

    def call(self, inputs):
        return convolve(inputs, self.kernel, self.bias, self.strides[0])
