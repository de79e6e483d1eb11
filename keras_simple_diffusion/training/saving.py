import warnings

from keras_simple_diffusion.training.position import StepCallback
from keras_simple_diffusion.utils.errors import InputError


class Saving(StepCallback):
    """Save the run every so many steps, when it is interrupted, at its end.

    A checkpoint that cannot be written, on a full disk say, is told in a
    warning, and the training goes on; the one at the end is an error.

    Args:
        position: the run's `Position`.
        save: function without arguments that writes the checkpoint.
        interval: int. Steps between lines of the log. Where one ends, the
            checkpoint is written after its line.
        every: int or `None`. Steps between checkpoints.
    """

    def __init__(self, position, save, interval, every=None):
        super().__init__(position)
        self.save = save
        self.interval = interval
        self.every = every
        self.saved = position.step

    def on_step_end(self):
        if self.position.step % self.interval:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        self._save_if_due()

    def on_train_end(self, logs=None):
        self._save_or_fail()

    def _save_if_due(self):
        step = self.position.step
        if self.position.signal is not None:
            self._save_or_fail()
        elif self.every and step % self.every == 0:
            try:
                self._save()
            except OSError as error:
                warnings.warn(
                    f"The checkpoint of step {step} could not be written "
                    f"({error.strerror or error}). The training goes on; the "
                    f"last checkpoint is that of step {self.saved}.",
                    stacklevel=2,
                )

    def _save(self):
        if self.saved == self.position.step:
            return
        self.model  # noqa: B018 - On JAX this brings the weights up to date.
        self.save()
        self.saved = self.position.step

    def _save_or_fail(self):
        try:
            self._save()
        except OSError as error:
            raise InputError(
                f"The checkpoint of step {self.position.step} could not be "
                f"written ({error.strerror or error}). The last one is that of "
                f"step {self.saved}: make room, then continue from it with "
                "`train --resume`."
            ) from error
