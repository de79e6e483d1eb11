import signal
import threading

from keras_simple_diffusion.training.position import StepCallback


class Interruption(StepCallback):
    """Save the run and leave when the process is asked to end.

    SIGTERM, as schedulers and preempted machines send it, and the first
    Ctrl-C end the training after the step under way; a second one ends the
    process at once.

    Args:
        position: the run's `Position`.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, position):
        super().__init__(position)
        self.previous = {}

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                self.previous[number] = signal.signal(number, self._note)

    def on_step_end(self):
        if self.position.signal is not None:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.restore()

    def restore(self):
        """Give the signals back to whoever had them before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def _note(self, number, frame):
        if self.position.signal is not None:
            self.restore()
            signal.raise_signal(number)
        self.position.signal = number
