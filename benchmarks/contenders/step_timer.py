import time

import keras


class StepTimer(keras.callbacks.Callback):
    """Seconds of the training steps of `fit`, without what is around them.

    An epoch of a benchmark has a few steps only. What `fit` does before the
    first and after the last one, such as TensorFlow's closing of a dataset,
    would count as if it belonged to them.

    Args:
        clock: function of `time` that returns seconds, by name.
    """

    def __init__(self, clock="perf_counter"):
        super().__init__()
        self._clock = getattr(time, clock)

    def on_epoch_begin(self, epoch, logs=None):
        self._steps = 0

    def on_train_batch_begin(self, batch, logs=None):
        if not batch:
            self._started = self._clock()

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._steps == self.params["steps"]:
            float(logs["loss"])  # Wait for it.
            self.seconds = self._clock() - self._started
