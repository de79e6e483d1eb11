"""Diffusion of a Gaussian mixture with independent pixels, in closed form."""

import numpy as np
from keras import ops


class GaussianOracle:
    """Data whose pixels are independent draws of one Gaussian mixture.

    Args:
        means: list of floats, of the components.
        stddevs: list of floats, of the components.
        weights: list of floats that sum to 1.
    """

    def __init__(self, means, stddevs, weights):
        self.means = np.array(means, "float64")
        self.variances = np.array(stddevs, "float64") ** 2
        self.weights = np.array(weights, "float64")

    def mean(self):
        return float(self.weights @ self.means)

    def variance(self):
        second = self.variances + self.means**2
        return float(self.weights @ second) - self.mean() ** 2

    def denoise(self, z, log_snr):
        """E[x | z] in float32, what an ideal network would predict."""
        log_snr = ops.reshape(log_snr, (-1, 1, 1, 1))
        signal = ops.sigmoid(log_snr)
        alpha, noise = ops.sqrt(signal), ops.sigmoid(-log_snr)
        logits, posterior = [], []
        for mean, variance, weight in zip(
            self.means, self.variances, self.weights, strict=True
        ):
            total = signal * variance + noise
            logits.append(
                float(np.log(weight))
                - 0.5 * ops.log(total)
                - 0.5 * (z - alpha * mean) ** 2 / total
            )
            gain = alpha * variance / total
            posterior.append(mean + gain * (z - alpha * mean))
        logits = ops.stack(logits)
        shares = ops.exp(logits - ops.logsumexp(logits, axis=0))
        return ops.sum(shares * ops.stack(posterior), axis=0)

    def flow(self, z, log_snr, next_log_snr):
        """Exact probability flow of a single Gaussian, in float64.

        The flow keeps the standardised value: it maps the Gaussian at one
        noise level onto that at the other.
        """
        mean, variance = self.means[0], self.variances[0]

        def moments(value):
            signal = 1 / (1 + np.exp(-value))
            spread = np.sqrt(signal * variance + 1 - signal)
            return np.sqrt(signal) * mean, spread

        centre, spread = moments(log_snr)
        next_centre, next_spread = moments(next_log_snr)
        return next_centre + next_spread * (z - centre) / spread
