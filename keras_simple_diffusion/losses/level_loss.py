import keras
from keras import ops

from keras_simple_diffusion.utils.errors import check_number


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class LevelLoss(keras.metrics.Metric):
    """Metric of the mean loss in each range of noise levels.

    The times of the noise schedule, from 0 (clean) to 1 (noise), are split
    into ranges of equal length. The result is a dict with the keys
    `"level_loss_0"`, `"level_loss_1"` and so on, the cleanest range first.
    The value of a range without images is 0.

    Args:
        num_bins: int. Number of ranges. Defaults to `8`.
        name: string. Defaults to `"level_loss"`.
        **kwargs: base `keras.metrics.Metric` arguments.
    """

    def __init__(self, num_bins=8, name="level_loss", **kwargs):
        super().__init__(name=name, **{**kwargs, "dtype": "float32"})
        self.num_bins = check_number(
            "num_bins", num_bins, at_least=1, whole=True
        )
        self.totals = self.add_variable((num_bins,), "zeros", name="totals")
        self.counts = self.add_variable((num_bins,), "zeros", name="counts")

    def update_state(self, times, losses):
        """Accumulate the losses of a batch.

        Args:
            times: float tensor of shape `(B,)`, in `[0, 1]`.
            losses: float tensor of shape `(B,)`.
        """
        bins = ops.cast(ops.floor(times * self.num_bins), "int32")
        bins = ops.clip(bins, 0, self.num_bins - 1)
        inside = ops.equal(
            ops.expand_dims(bins, 1), ops.arange(self.num_bins, dtype="int32")
        )
        # `where`, not a product: a non-finite loss stays in its own range.
        losses = ops.where(inside, ops.expand_dims(losses, 1), 0.0)
        self.totals.assign(self.totals + ops.sum(losses, axis=0))
        counts = ops.sum(ops.cast(inside, "float32"), axis=0)
        self.counts.assign(self.counts + counts)

    def result(self):
        means = self.totals / ops.maximum(self.counts, 1.0)
        return {f"{self.name}_{i}": means[i] for i in range(self.num_bins)}

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}
