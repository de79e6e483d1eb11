"""A multistep sampler of third order, which needs a memory and the grid."""

import keras
from keras import ops

import keras_simple_diffusion as ksd


@keras.saving.register_keras_serializable("tests")
class AdamsBashforthSampler(ksd.samplers.Sampler):
    """Exponential Adams-Bashforth solver of the probability flow.

    The predicted clean images of this and the last two steps define a
    parabola in half the log-SNR, which is integrated exactly. The first step
    is of first order, the second one of second order.

    Args:
        order: int, 1 to 3. Defaults to `3`.
    """

    def __init__(self, order=3):
        self.order = order

    def initial_memory(self, noise):
        zeros = ops.zeros_like(noise)
        return {"clean": zeros, "slope": zeros}

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        next_l, l0, l1, l2 = (0.5 * at.level(i) for i in (1, 0, -1, -2))
        h = next_l - l0
        order = ops.minimum(at.index + 1, self.order)
        # Newton's divided differences; 1 where there is no previous level.
        first = ops.where(order < 2, 1.0, l0 - l1)
        second = ops.where(order < 3, 1.0, l0 - l2)
        slope = (clean - at.memory["clean"]) / first
        slope = ops.where(order < 2, 0.0, slope)
        curvature = (slope - at.memory["slope"]) / second
        curvature = ops.where(order < 3, 0.0, curvature)
        # Integrals of exp(s - h) s^k over [0, h] for k = 0, 1, 2.
        zero = -ops.expm1(-h)
        one = h - zero
        two = h**2 - 2.0 * one
        integral = (
            zero * clean + one * slope + (two + one * (l0 - l1)) * curvature
        )
        alpha, sigma = ksd.ops.alpha_sigma(at.next_log_snr)
        _, sigma_before = ksd.ops.alpha_sigma(at.log_snr)
        noisy = sigma / sigma_before * at.noisy_images + alpha * integral
        return noisy, clean, {"clean": clean, "slope": slope}
