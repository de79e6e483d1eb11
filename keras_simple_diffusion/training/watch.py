"""Stop of a run whose numbers are not finite, with a report."""

import json
import pathlib

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.optimizers.watched_optimizer import WatchedOptimizer
from keras_simple_diffusion.optimizers.wrapper import find_optimizer
from keras_simple_diffusion.training.lifecycle import result_warnings
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import new_folder


class Watch(keras.callbacks.Callback):
    """Stop at the first step whose gradients or weights are not finite.

    The compiled step records its number, see
    `keras_simple_diffusion.optimizers.WatchedOptimizer`. It is checked after
    each interval and before each checkpoint and sheet of samples, so these
    never come from weights that are not finite. The batch of that step is
    written to `batch.npz`, its noise levels and statistics to `report.json`.

    The norms of gradient and weights are added to the logs of the interval.

    Args:
        position: the run's `Position`.
        folder: path of the folder that receives the report of a failure.
        read_batch: function from the number of a batch to the batch, a dict
            of arrays.
    """

    def __init__(self, position, folder, read_batch):
        super().__init__()
        self.position = position
        self.folder = pathlib.Path(folder)
        self.read_batch = read_batch

    def on_epoch_end(self, epoch, logs=None):
        self.check()
        if logs is not None:
            report = self._optimizer().report()
            del report["first_bad_step"]
            logs.update(report)

    def check(self):
        """Raise an `InputError` if gradients or weights were not finite.

        On JAX the model's variables must be synchronized, as accessing
        `callback.model` does.
        """
        optimizer = self._optimizer()
        bad = optimizer.report()["first_bad_step"]
        if bad < 0:
            return
        done = int(ops.convert_to_numpy(optimizer.num_steps))
        batch = self.read_batch(bad)
        times = self.model.times_of_step(len(batch["images"]), done - bad)
        log_snr = ops.convert_to_numpy(self.model.schedule(times))
        step = bad // self.position.batches_per_step + 1
        images = batch["images"].reshape(len(log_snr), -1)
        report = {
            "step": step,
            "batch": bad,
            "log_snr": log_snr.round(4).tolist(),
            "images": {
                name: getattr(np, name)(images, axis=1).round(3).tolist()
                for name in ("min", "mean", "std", "max")
            },
            "labels": np.asarray(batch.get("labels", [])).tolist(),
            "norms": optimizer.report(),
        }
        if is_main_process():
            with result_warnings(self.folder), new_folder(self.folder) as draft:
                np.savez_compressed(draft / "batch.npz", **batch)
                text = json.dumps(report, indent=2)
                (draft / "report.json").write_text(text + "\n")
        raise InputError(
            f"Gradients or weights are not finite since step {step}, whose "
            f"log-SNRs lie in [{log_snr.min():.1f}, {log_snr.max():.1f}] and "
            f"whose images lie in [{images.min()}, {images.max()}]; the batch "
            f"is in '{self.folder}'. Earlier checkpoints are intact: start a "
            "new run from this one (--initialize-from) with a lower "
            "--learning-rate, or with --dtype float32."
        )

    def _optimizer(self):
        return find_optimizer(self.model.optimizer, WatchedOptimizer)
