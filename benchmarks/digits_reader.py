"""Measures of the quality of generated digits."""

import itertools

import keras
import numpy as np
from keras import ops
from sklearn.svm import SVC

import keras_simple_diffusion as ksd


def distances(a, b):
    """Root mean square difference of each pair, in grey levels of 0 to 1."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0) / a.shape[1])


def frechet(a, b):
    """Fréchet distance of two sets of vectors, taken as Gaussians."""
    mean_a, mean_b = a.mean(0), b.mean(0)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    # The trace of the square root of a product of two positive matrices.
    root = np.sqrt(np.maximum(np.linalg.eigvals(cov_a @ cov_b).real, 0)).sum()
    return float(
        ((mean_a - mean_b) ** 2).sum()
        + np.trace(cov_a)
        + np.trace(cov_b)
        - 2 * root
    )


class DigitsReader:
    """A support vector machine trained on the real digits, and its measures.

    Args:
        size: int, height and width of the digits.
    """

    def __init__(self, size):
        train, labels = ksd.data.load_digits(size, "train")
        test, self.test_labels = ksd.data.load_digits(size, "test")
        self.train, self.test = self._flat(train), self._flat(test)
        self.classifier = SVC(C=10.0).fit(self.train, labels)

    def read(self, images):
        """Classify digits."""
        return self.classifier.predict(self._flat(images))

    def to_keras(self):
        """The same classifier as a Keras model of images in [0, 255].

        Its outputs are the votes of the classes in all pairs of them.
        """
        machine, size = self.classifier, round(self.train.shape[1] ** 0.5)
        gamma, supports = float(machine._gamma), machine.support_vectors_
        pairs = list(itertools.combinations(range(10), 2))
        owners = np.repeat(np.arange(10), machine.n_support_)
        weights = np.zeros((len(supports), len(pairs)))
        for column, (i, j) in enumerate(pairs):
            for mine, other in ((i, j), (j, i)):
                rows = owners == mine
                part = other - (other > mine)
                weights[rows, column] = machine.dual_coef_[part, rows]
        votes = np.zeros((len(pairs), 10))
        for row, (i, j) in enumerate(pairs):
            votes[row, i], votes[row, j] = 0.5, -0.5
        inputs = keras.Input((size, size, 1))
        x = keras.layers.Flatten()(inputs / 255.0)
        products = keras.layers.Dense(len(supports))
        decisions = keras.layers.Dense(len(pairs))
        counts = keras.layers.Dense(10)
        squares = gamma * ops.sum(ops.square(x), axis=1, keepdims=True)
        kernel = ops.exp(products(x) - squares)
        model = keras.Model(inputs, counts(ops.sign(decisions(kernel))))
        products.set_weights(
            [2 * gamma * supports.T, -gamma * (supports**2).sum(1)]
        )
        decisions.set_weights([weights, machine.intercept_])
        counts.set_weights([votes, np.full(10, 4.5)])
        return model

    def measure(self, images, labels):
        """Compare generated digits with real held-out ones.

        Args:
            images: `uint8` array of shape `(N, size, size, 1)`.
            labels: int array of shape `(N,)`, the digits asked for.

        Returns:
            A dict from the measure's name to a pair of floats, of the
            generated and of the held-out digits.
        """
        images = self._flat(images)
        return {
            "read as the digit asked for": (
                self.classifier.score(images, labels),
                self.classifier.score(self.test, self.test_labels),
            ),
            "distance to the nearest training image": (
                self._nearest(images),
                self._nearest(self.test),
            ),
            "spread within a class": (
                self._spread(images, labels),
                self._spread(self.test, self.test_labels),
            ),
            "Fréchet distance to held-out digits": (
                self._frechet(images),
                self._frechet(self.train),
            ),
        }

    def _nearest(self, images):
        return float(distances(images, self.train).min(axis=1).mean())

    def _frechet(self, images):
        """Over the classifier's ten decision values."""
        decide = self.classifier.decision_function
        return frechet(decide(images), decide(self.test))

    @staticmethod
    def _spread(images, labels):
        """Mean distance between two images of one class."""
        values = []
        for label in np.unique(labels):
            chosen = images[labels == label]
            pairs = distances(chosen, chosen)[np.triu_indices(len(chosen), 1)]
            values.append(pairs.mean())
        return float(np.mean(values))

    @staticmethod
    def _flat(images):
        return images.reshape(len(images), -1) / 255.0
