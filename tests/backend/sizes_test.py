"""Steps on batches whose images differ in size."""

import numpy as np
import pytest

from keras_simple_diffusion.backend.sizes import compiled_by_size

pytestmark = pytest.mark.any_backend


def test_a_step_takes_all_its_batches_and_is_made_once_a_size():
    taken = []

    def make():
        number = len(made)
        made.append(number)

        def step(iterator):
            taken.extend((number, batch.shape[1]) for batch in iterator)
            return len(taken)

        return step

    made = []
    step = compiled_by_size(make, 2)
    batches = iter([np.zeros((2, size, 8, 1)) for size in (4, 8, 4)])
    assert step(batches) == 2
    assert step(batches) == 3  # One is left.
    with pytest.raises(StopIteration):
        step(batches)
    first, second = made[1:]
    assert taken == [(first, 4), (second, 8), (first, 4)]
