import keras
from keras import ops

from keras_simple_diffusion.utils.errors import InputError


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class LevelLoss(keras.metrics.Metric):
    """Mean loss of each range of noise levels.

    The times of the noise schedule, 0 for clean and 1 for noise, are split
    into ranges of the same length. The result is a dict from `"level_loss_0"`
    on, the cleanest range first. A range in which there was no image gives
    0, which no loss reaches, so a plot can leave it out.

    Args:
        num_bins: int. Number of ranges. Defaults to `8`.
        name: string. Defaults to `"level_loss"`.
        **kwargs: base `keras.metrics.Metric` arguments.
    """

    def __init__(self, num_bins=8, name="level_loss", **kwargs):
        super().__init__(name=name, **{**kwargs, "dtype": "float32"})
        if not (isinstance(num_bins, int) and num_bins >= 1):
            raise InputError(
                "The number of ranges of noise levels must be a positive "
                f"integer. Received: {num_bins}"
            )
        self.num_bins = num_bins
        self.totals = self.add_variable((num_bins,), "zeros", name="totals")
        self.counts = self.add_variable((num_bins,), "zeros", name="counts")

    def update_state(self, times, losses):
        """Add the images of a batch.

        Args:
            times: float tensor of shape `(B,)`, in `[0, 1]`.
            losses: float tensor of shape `(B,)`.
        """
        bins = ops.cast(ops.floor(times * self.num_bins), "int32")
        bins = ops.clip(bins, 0, self.num_bins - 1)
        inside = ops.equal(
            ops.expand_dims(bins, 1), ops.arange(self.num_bins, dtype="int32")
        )
        # Not a product: a loss that is not finite stays in its range.
        losses = ops.where(inside, ops.expand_dims(losses, 1), 0.0)
        self.totals.assign(self.totals + ops.sum(losses, axis=0))
        counts = ops.sum(ops.cast(inside, "float32"), axis=0)
        self.counts.assign(self.counts + counts)

    def result(self):
        means = self.totals / ops.maximum(self.counts, 1.0)
        return {f"{self.name}_{i}": means[i] for i in range(self.num_bins)}

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}
