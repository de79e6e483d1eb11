"""Data of every kind in `fit` and `evaluate`: the same values and checks."""

import warnings

import grain
import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models import fit_data
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import values_of

BATCH = 4


def batches_of(data):
    count = len(data["images"]) // BATCH
    return [
        {name: v[BATCH * i : BATCH * i + BATCH] for name, v in data.items()}
        for i in range(count)
    ]


class PyBatches(keras.utils.PyDataset):
    def __init__(self, data):
        super().__init__()
        self.batches = batches_of(data)

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def tf_dataset(data):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(data).batch(BATCH)


def loader(data, as_tuple):
    import torch

    rows = [
        {name: values[i] for name, values in data.items()}
        for i in range(len(data["images"]))
    ]
    rows = [(row,) for row in rows] if as_tuple else rows
    return torch.utils.data.DataLoader(rows, batch_size=BATCH)


KINDS = {
    "arrays": lambda data: data,
    "tf.data": tf_dataset,
    "PyDataset": PyBatches,
    "Grain map": lambda data: grain.MapDataset.source(batches_of(data)),
    "Grain iter": lambda data: grain.MapDataset.source(
        batches_of(data)
    ).to_iter_dataset(),
    "DataLoader of dicts": lambda data: loader(data, as_tuple=False),
    "DataLoader of tuples": lambda data: loader(data, as_tuple=True),
    "generator": lambda data: (batch for batch in batches_of(data)),
}


@pytest.fixture(scope="module")
def model():
    """A model whose weights no test may change."""
    return make_model(learning_rate=0.0)


def float_data(count=24):
    data = make_data(count)
    return {**data, "images": data["images"].astype("float32") / 127.5 - 1}


def test_every_kind_of_data_has_the_same_loss(model):
    data = make_data(16)
    expected = model.evaluate(data, batch_size=BATCH, verbose=0)
    for name, make in KINDS.items():
        steps = 4 if name == "generator" else None
        with warnings.catch_warnings():
            # Such as that the data ran out.
            warnings.simplefilter("error", UserWarning)
            value = model.evaluate(
                make(data),
                batch_size=BATCH if name == "arrays" else None,
                steps=steps,
                verbose=0,
            )
            again = make(data)
            model.fit(
                make(data),
                batch_size=BATCH,
                epochs=1,
                steps_per_epoch=steps,
                validation_data=None if steps else again,
                verbose=0,
            )
        assert value == pytest.approx(expected, rel=1e-5), name


def test_a_grain_dataset_is_read_a_few_batches_ahead(model):
    data, read = make_data(BATCH), set()

    class Source:
        def __len__(self):
            return 500

        def __getitem__(self, index):
            read.add(index)
            return data

    model.fit(
        grain.MapDataset.source(Source()),
        steps_per_epoch=1,
        epochs=2,
        verbose=0,
    )
    assert len(read) <= 32


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", KINDS)
def test_first_batches_are_checked(model, kind):
    for place in (0, 9):  # In the first batch and in the third.
        far, nan, label = float_data(16), float_data(16), make_data(16)
        far["images"][place] *= 127.5
        nan["images"][place] = np.nan
        label["labels"][place] = 7
        for data, message in (
            (far, r"float in \[-1, 1\]. Received: float32"),
            (nan, r"in \[nan, nan\]"),
            (label, "Received: 7"),
        ):
            for call in (
                lambda x: model.fit(x, verbose=0),
                lambda x: model.evaluate(x, verbose=0),
                lambda x: model.fit(make_data(4), validation_data=x, verbose=0),
            ):
                with pytest.raises(InputError, match=message):
                    call(KINDS[kind](data))


@pytest.mark.any_backend
@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_single_batches_are_checked(model, method):
    data = float_data(4)
    with pytest.raises(InputError, match="Received: float32 in"):
        getattr(model, method)({**data, "images": 127.5 * data["images"]})
    with pytest.raises(InputError, match="Received: 9"):
        getattr(model, method)({**data, "labels": np.full(4, 9)})


@pytest.mark.any_backend
def test_the_rows_of_batches_are_to_be_split_over_devices(model, monkeypatch):
    checked = []
    monkeypatch.setattr(fit_data, "check_batch_size", checked.append)
    data = make_data(48)
    model.train_on_batch(data)
    model.test_on_batch(data)
    assert checked == [48, 48]
    checked.clear()
    model.fit(data, validation_data=data, verbose=0)
    assert sorted(checked) == [16, 16, 32, 32]
    checked.clear()
    model.evaluate(data, batch_size=36, verbose=0)
    assert sorted(checked) == [12, 36]


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["PyDataset", "DataLoader of tuples"])
def test_labels_beside_the_images_are_refused(model, kind):
    data = make_data(8)

    class Pairs(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            batch = batches_of(data)[index]
            return batch["images"], batch["labels"]

    source = Pairs() if kind == "PyDataset" else [Pairs()[0], Pairs()[1]]
    with pytest.raises(InputError, match="not tuples"):
        model.fit(source, verbose=0)


def later(**changes):
    """Data whose fifth batch has bad values."""
    data = float_data()
    for name, value in changes.items():
        data[name][17:19] = value
    return PyBatches(data)


BAD = {
    "labels": (7, r"2 with labels outside of \[0, 3\]"),
    "images": (np.nan, "2 with pixels that are not finite or not in the range"),
}


@pytest.mark.parametrize("name", BAD)
def test_later_batches_are_checked_within_the_step(name):
    value, message = BAD[name]
    model = make_model(learning_rate=1e-2)
    losses = []

    def note(batch, logs):
        losses.append(float(logs["loss"]))

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    raw = values_of(model.trainable_variables)
    with pytest.raises(InputError, match=message):
        model.fit(
            later(**{name: value}),
            epochs=2,
            shuffle=False,
            callbacks=[callback],
            verbose=0,
        )
    # It is seen at once, ends the epoch in which it occurs, and does no harm.
    assert len(losses) == 6
    assert np.isfinite(losses[:4]).all() and np.isnan(losses[4:]).all()
    trained = values_of(model.trainable_variables)
    assert all(np.isfinite(weight).all() for weight in trained)
    assert any((a != b).any() for a, b in zip(raw, trained, strict=True))
    with pytest.raises(InputError, match=message):
        model.evaluate(later(**{name: value}), verbose=0)
    with pytest.raises(InputError, match=message):
        model.fit(
            make_data(4), validation_data=later(**{name: value}), verbose=0
        )
    # Counts are those of one call.
    history = model.fit(make_data(8), validation_data=make_data(4), verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    assert set(history.history) == {"loss", "val_loss"}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_batch_with_bad_values_has_a_gradient_of_zero(momentum):
    model = make_model()
    sgd = keras.optimizers.SGD(0.1, momentum)
    model.compile(sgd, ema_decay=None, jit_compile=False)
    weights = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(values_of(self.model.trainable_variables))

    with pytest.raises(InputError, match="NaN and a gradient of zero"):
        model.fit(later(labels=7), shuffle=False, callbacks=[Note()], verbose=0)
    # The fifth batch moves the weights by the momentum of the others only.
    is_moved = not all(map(np.array_equal, weights[3], weights[4]))
    assert is_moved == (momentum > 0.0)


def test_bad_values_before_a_validation_are_told():
    model = make_model()
    with pytest.raises(InputError, match="2 with labels"):
        model.fit(later(labels=-1), validation_data=make_data(4), verbose=0)


@pytest.mark.any_backend
@pytest.mark.parametrize("method", ["edit", "inpaint", "upscale", "invert"])
def test_edited_images_are_checked_as_in_fit(model, method):
    size = 2 if method == "upscale" else 4
    arguments = {"condition": [0], "num_steps": 1}
    if method == "inpaint":
        arguments["mask"] = np.ones((4, 4), bool)
    call = getattr(model, method)
    for images, message in (
        (np.full((1, size, size, 1), 200.0), r"float64 in \[200, 200\]"),
        (np.full((1, size, size, 1), np.nan), r"\[nan, nan\]"),
        (np.zeros((1, size, size, 1), bool), "bool"),
    ):
        with pytest.raises(InputError, match=message):
            call(images, **arguments)
    with pytest.warns(ksd.models.UnusualDataWarning, match="a half of"):
        call(np.full((1, size, size, 1), 0.5), **arguments)


def test_half_precision_images_are_images():
    data = float_data(4)
    model = make_model(learning_rate=0.0)
    expected = model.evaluate(data, verbose=0)
    for dtype in ("bfloat16", "float16"):
        images = ops.cast(data["images"], dtype)
        value = model.evaluate({**data, "images": images}, verbose=0)
        assert value == pytest.approx(expected, rel=2e-2)
