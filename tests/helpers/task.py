"""All that holds for any task, whatever its images are drawn from."""

import keras
import numpy as np
from keras import ops

from tests.helpers.models import values_of


def run_task_test(task, data, conditions, folder):
    """Train, draw, save, load, and go on training.

    Args:
        task: Compiled task with an average of its weights, not trained yet.
        data: Dictionary of training data.
        conditions: Arguments of `generate` that say what to draw.
        folder: Empty folder to save into.
    """
    task_class = type(task)
    before = values_of(task.trainable_variables)
    for _ in range(2):
        history = task.fit(data, batch_size=4, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
    after = values_of(task.trainable_variables)
    pairs = zip(before, after, strict=True)
    assert np.mean([not np.array_equal(*pair) for pair in pairs]) > 0.8

    # Images depend on the conditions and the seed.
    images = task.generate(**conditions, seed=3)
    assert images.dtype == "uint8"
    assert images.shape[1:] == task.backbone.image_shape
    np.testing.assert_array_equal(task.generate(**conditions, seed=3), images)
    assert not np.array_equal(task.generate(**conditions, seed=4), images)

    # A preset holds the settings and the average.
    task.save_to_preset(folder / "preset")
    copy = task_class.from_preset(folder / "preset")
    assert copy.get_config() == task.get_config()
    np.testing.assert_array_equal(copy.generate(**conditions, seed=3), images)
    other = task_class.from_preset(folder / "preset", num_steps=7)
    assert other.num_steps == 7

    # A Keras file holds the raw weights, the average and the optimizer.
    task.save(folder / "task.keras")
    whole = keras.models.load_model(folder / "task.keras")
    assert type(whole) is task_class
    for value, variable in zip(
        after, values_of(whole.trainable_variables), strict=True
    ):
        np.testing.assert_array_equal(variable, value)
    np.testing.assert_array_equal(whole.generate(**conditions, seed=3), images)

    # Both go on training, the second from the step of the first.
    copy.fit(data, batch_size=4, verbose=0)
    steps = int(ops.convert_to_numpy(task.optimizer.iterations))
    whole.fit(data, batch_size=4, verbose=0)
    more = int(ops.convert_to_numpy(whole.optimizer.iterations)) - steps
    assert more == steps // 4
