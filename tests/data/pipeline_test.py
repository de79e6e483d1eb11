import multiprocessing

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError


def take(count, source, batch_size, **kwargs):
    batches = iter(ksd.data.training_batches(source, batch_size, **kwargs))
    return [next(batches) for _ in range(count)]


def joined(batches, key):
    return np.concatenate([batch[key] for batch in batches])


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            assert batch[key].dtype == other[key].dtype
            np.testing.assert_array_equal(batch[key], other[key])


@pytest.fixture
def numbered():
    """Ten images that hold their number, and 100 more on the right."""
    images = np.arange(10, dtype="uint8").reshape(10, 1, 1, 1)
    images = np.broadcast_to(images, (10, 4, 4, 1)).copy()
    images[:, :, 2:] += 100
    return ksd.data.ArraySource(images, np.arange(10))


@pytest.fixture
def wide(tmp_path, encode, image):
    """A folder of seven images in which a random crop finds much."""
    folder = tmp_path / "wide"
    folder.mkdir()
    for i in range(7):
        (folder / f"{i}.png").write_bytes(encode(image(i, (8, 90, 3))))
    return ksd.data.open_data(folder, 8, crop="random")


@pytest.mark.any_backend
def test_every_epoch_has_every_image_in_another_order(numbered):
    batches = take(5, numbered, 4)
    assert batches[0]["images"].shape == (4, 4, 4, 1)
    assert batches[0]["images"].dtype == "uint8"
    assert batches[0]["labels"].dtype == "int32"
    labels = joined(batches, "labels")
    for epoch in (labels[:10], labels[10:]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert not np.array_equal(labels[:10], labels[10:])
    assert_equal(take(5, numbered, 4), batches)
    other = joined(take(5, numbered, 4, seed=1), "labels")
    assert not np.array_equal(other, labels)
    images = joined(batches, "images")
    np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    # Batches larger than the data go on in the next epoch.
    large = take(2, numbered, 25)
    assert np.bincount(joined(large, "labels")).tolist() == [5] * 10


@pytest.mark.any_backend
def test_few_batches_are_read_ahead():
    class Counted(ksd.data.ArraySource):
        number = 0

        def example(self, index, rng=None):
            Counted.number += 1
            return super().example(index, rng)

    source = Counted(np.zeros((1000, 4, 4, 1), "uint8"), np.zeros(1000, int))
    take(50, source, 2)
    # Two batches wait, and one more of each is made or handed over.
    assert 100 <= Counted.number <= 2 * (50 + 2 + 2)


@pytest.mark.any_backend
def test_flips(numbered):
    images = joined(take(60, numbered, 10, flip=True), "images")
    flipped = images[:, 0, 0, 0] >= 100
    assert 0.42 < flipped.mean() < 0.58
    # Not the same in each epoch, nor the same for the whole batch.
    assert len({tuple(row) for row in flipped.reshape(60, 10)}) > 50


@pytest.mark.any_backend
def test_portraits_are_mirrored_as_they_stand(tmp_path, encode, image):
    portrait = image(0, (20, 12, 3))
    (tmp_path / "1.png").write_bytes(encode(portrait))
    source = ksd.data.open_data(tmp_path, (12, 20), turn_portrait=True)
    keys = ("images", "portrait")
    batches = take(1, source, 32, flip=True, keys=keys)[0]
    assert batches["portrait"].tolist() == [1] * 32
    found = {images.tobytes() for images in batches["images"]}
    assert found == {
        np.rot90(portrait).tobytes(),
        np.rot90(portrait[:, ::-1]).tobytes(),
    }


@pytest.mark.any_backend
def test_any_batch_at_once(numbered, wide):
    for source in (numbered, wide):
        batches = take(12, source, 6, flip=True, seed=3)
        for start in (0, 1, 7):
            later = take(3, source, 6, flip=True, seed=3, start_step=start)
            assert_equal(later, batches[start : start + 3])
    # At no cost, however late.
    last = take(1, numbered, 6, start_step=10**12)[0]
    assert last["images"].shape == (6, 4, 4, 1)


@pytest.mark.any_backend
def test_shares_of_processes_make_the_batch(wide):
    whole = take(4, wide, 12, flip=True)
    for count in (2, 3, 4):
        shares = [
            take(
                3,
                wide,
                12,
                flip=True,
                start_step=1,
                process_index=index,
                process_count=count,
            )
            for index in range(count)
        ]
        for step in range(3):
            images = joined([share[step] for share in shares], "images")
            np.testing.assert_array_equal(images, whole[step + 1]["images"])
    with pytest.raises(InputError, match="batch_size=10, process_count=4"):
        ksd.data.training_batches(wide, 10, process_count=4)


@pytest.mark.any_backend
def test_keys(tmp_path, write_images):
    write_images(tmp_path, "1.png", "2.png")
    lines = [f'{{"file_name": "{i}.png", "text": "no. {i}"}}' for i in (1, 2)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    source = ksd.data.open_data(tmp_path, 8)
    with pytest.warns(UserWarning, match="captions of the data are not used"):
        assert take(1, source, 2)[0].keys() == {"images"}
    batch = take(1, source, 2, keys=("images", "captions"))[0]
    assert sorted(batch["captions"]) == ["no. 1", "no. 2"]


@pytest.mark.any_backend
def test_waiting_is_measured(numbered):
    batches = ksd.data.training_batches(numbered, 4)
    assert batches.seconds_waited == 0
    iterator = iter(batches)
    next(iterator)
    first = batches.seconds_waited
    assert 0 < first < 10
    next(iterator)
    assert batches.seconds_waited > first


@pytest.mark.any_backend
def test_worker_processes_give_the_same_batches(wide):
    expected = take(5, wide, 4, flip=True, start_step=2)
    batches = iter(
        ksd.data.training_batches(
            wide, 4, flip=True, start_step=2, num_workers=2
        )
    )
    found = [next(batches) for _ in range(5)]
    assert_equal(found, expected)
    # Not in memory that goes with the processes.
    assert all(array.base is None for array in found[0].values())
    children = multiprocessing.active_children()
    next(each for each in children if each.name.startswith("grain-")).kill()
    with pytest.raises(InputError, match="was killed"):
        for _ in range(20):
            next(batches)
    path = wide.listing.container.path
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(InputError, match="The folder .* is gone"):
        take(1, wide, 4, num_workers=1)


@pytest.fixture(scope="module")
def model():
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (4, 8), (1, 1), num_heads=1, embedding_dim=8
    )
    return ksd.models.DiffusionModel(backbone)


def test_fit_names_the_folder_that_is_gone(wide, model):
    path = wide.listing.container.path

    class Remove(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if path.exists():
                path.rename(path.with_name("elsewhere"))

    batches = ksd.data.training_batches(wide, 4)
    with pytest.raises(InputError, match=f"^The folder '{path}' is gone"):
        with batches.errors_as_raised():
            model.fit(
                batches,
                steps_per_epoch=100,
                shuffle=False,
                verbose=0,
                callbacks=[Remove()],
            )
