import signal
import threading

import numpy as np

from keras_simple_diffusion.distribution.native import from_main_process
from keras_simple_diffusion.distribution.native import num_processes
from keras_simple_diffusion.training.position import StepCallback


class Interrupted(Exception):
    """A signal ended the training, and the run was saved.

    Args:
        signal: int, the signal's number.
        step: int, the step of the checkpoint.
    """

    def __init__(self, signal, step):
        super().__init__(f"interrupted by signal {signal} at step {step}")
        self.signal = signal
        self.step = step


class Interruption(StepCallback):
    """Save the run and leave when the process is asked to end.

    SIGTERM, as schedulers and preempted machines send it, and the first
    Ctrl-C end the training after the step under way; a second one ends the
    process at once.

    Of several processes the main one decides, at the end of an interval, so
    that all of them leave at the same step.

    Args:
        position: the run's `Position`.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, position):
        super().__init__(position)
        self.previous = {}
        self.received = None

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                self.previous[number] = signal.signal(number, self._note)

    def on_step_end(self):
        if num_processes() == 1:
            self._follow(self.received)

    def on_epoch_end(self, epoch, logs=None):
        if num_processes() > 1:
            received = np.array(self.received or 0, "int32")
            self._follow(int(from_main_process(received)) or None)

    def on_train_end(self, logs=None):
        self.restore()

    def restore(self):
        """Give the signals back to whoever had them before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def _follow(self, received):
        if received is not None:
            self.position.signal = received
            self.model.stop_training = True

    def _note(self, number, frame):
        if self.received is not None:
            self.restore()
            signal.raise_signal(number)
        self.received = number
