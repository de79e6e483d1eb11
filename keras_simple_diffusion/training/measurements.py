import time

import keras
from keras import ops

# Peak of dense bfloat16 matrix products of one device, FLOP/s, from the
# makers' data sheets. The first name that the device's contains counts.
_PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "TPU v6 lite": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
}


class Measurements(keras.callbacks.Callback):
    """Add to the logs of each interval how fast it was.

    `pictures_per_second`; `waiting`, the share of the time spent waiting for
    pictures; `learning_rate`; and, in bfloat16 on a device whose peak is
    known, `utilization`: the arithmetic of the network, three times that of a
    forward pass, over what the devices could have done in the time.

    Args:
        position: the run's `Position`.
        batch_size: int. Pictures a step.
        macs: int. Multiply-accumulates of one forward pass of one picture.
        device: string, the name of the devices, or `None` if their peak does
            not apply.
        num_devices: int. Defaults to `1`.
    """

    def __init__(self, position, batch_size, macs, device=None, num_devices=1):
        super().__init__()
        self.position = position
        self.batch_size = batch_size
        self.flops = 3 * 2 * macs
        peaks = [v for k, v in _PEAKS.items() if k in (device or "")]
        self.peak = peaks[0] * num_devices if peaks else None
        self.batches = None

    def follow(self, batches):
        """Take the time waited from the `Batches` of the coming `fit`."""
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        self.first_step = self.position.step
        self.waited = self.batches.seconds_waited

    def on_train_batch_end(self, batch, logs=None):
        # Validation and drawing at the interval's end do not count.
        self.seconds = time.perf_counter() - self.started

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        steps = self.position.step - self.first_step
        rate = steps * self.batch_size / self.seconds
        waited = self.batches.seconds_waited - self.waited
        logs["pictures_per_second"] = rate
        logs["waiting"] = min(waited / self.seconds, 1.0)
        logs["learning_rate"] = float(
            ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        if self.peak is not None:
            logs["utilization"] = rate * self.flops / self.peak
