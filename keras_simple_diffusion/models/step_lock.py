"""Reading the weights of a model in one thread while another trains it."""

import contextlib
import threading


class StepLock:
    """Lock that keeps training steps and the reading of weights apart.

    During `fit` each step holds the lock, and a thread that reads the weights
    copies them between two steps. At other times they are read without a
    copy, and a `fit` that begins waits until they are no longer in use.
    """

    def __init__(self):
        self._condition = threading.Condition(threading.RLock())
        self._num_trainings = 0
        self._num_readers = 0
        self._num_waiting = 0
        self._waiting_lock = threading.Lock()

    def __enter__(self):
        self._condition.acquire()
        if self._num_waiting:
            # A lock alone would go to the same thread again.
            self._condition.wait(timeout=1.0)

    def __exit__(self, *_):
        self._condition.release()

    @contextlib.contextmanager
    def training(self):
        """Context in which steps may change the weights."""
        with self._condition:
            # New readers copy from now on, so that waiting comes to an end.
            self._num_trainings += 1
            self._condition.wait_for(lambda: not self._num_readers)
        try:
            yield
        finally:
            with self._condition:
                self._num_trainings -= 1

    @contextlib.contextmanager
    def reading(self, read, copy):
        """Context in which the values of variables do not change.

        Args:
            read: function without arguments that returns a list of values.
            copy: function that copies one of them.

        Yields:
            The list of values, copied while the model is in training.
        """
        self._wait(1)
        with self._condition:
            self._wait(-1)
            values = read()
            is_copied = self._num_trainings > 0
            if is_copied:
                values = [copy(value) for value in values]
            else:
                self._num_readers += 1
            self._condition.notify_all()
        try:
            yield values
        finally:
            if not is_copied:
                with self._condition:
                    self._num_readers -= 1
                    self._condition.notify_all()

    def _wait(self, change):
        with self._waiting_lock:
            self._num_waiting += change
