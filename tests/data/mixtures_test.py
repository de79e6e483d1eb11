import pickle

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.inspection import examine
from keras_simple_diffusion.data.loading import absolute_name
from keras_simple_diffusion.data.loading import parts_of
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


@pytest.fixture
def data(tmp_path, write_images):
    """Two folders: 5 cats and 2 dogs; 1 dog and 3 emus, and held-out emus."""
    counts = {
        "a/cat": 5,
        "a/dog": 2,
        "b/train/dog": 1,
        "b/train/emu": 3,
        "b/test/emu": 2,
    }
    names = [
        f"{k}/{i}.png" for k, count in counts.items() for i in range(count)
    ]
    write_images(tmp_path, *names)  # All different.
    return tmp_path / "a", tmp_path / "b"


def indices_of(source, count, **options):
    """Numbers of the images of the stream, told by their pixels."""
    known = {source[i]["images"].tobytes(): i for i in range(len(source))}
    assert len(known) == len(source)
    batches = iter(ksd.data.training_batches(source, 10, **options))
    found = []
    for batch in (next(batches) for _ in range(count // 10)):
        found += [known[image.tobytes()] for image in batch["images"]]
    return np.array(found)


def test_sources_one_after_another(data):
    parts = [ksd.data.open_data(each, 8) for each in data]
    source = ksd.data.mix(parts)
    assert source.class_names == ["cat", "dog", "emu"]
    labels = [source[i]["labels"] for i in range(11)]
    assert labels == [0] * 5 + [1] * 2 + [1] + [2] * 3
    for i in range(11):
        part, inside = (0, i) if i < 7 else (1, i - 7)
        expected = parts[part][inside]["images"]
        np.testing.assert_array_equal(source[i]["images"], expected)
    assert source.annotations() == [(label, None) for label in labels]
    assert [each.label for each in examine(source)] == labels
    assert "b: train/emu/1.png" in source.name(9)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[9]["images"], source[9]["images"])
    assert copy.fingerprint == source.fingerprint
    # Without weights each image comes once in an epoch.
    found = indices_of(source, 110)
    for epoch in found.reshape(10, 11):
        assert sorted(epoch) == list(range(11))


def test_weights_are_shares(data):
    parts = [ksd.data.open_data(each, 8) for each in data]
    source = ksd.data.mix(parts, [1, 3])
    assert source.fingerprint != ksd.data.mix(parts).fingerprint
    found = indices_of(source, 2000)
    is_second = found >= 7
    assert [is_second[:1000].sum(), is_second[1000:].sum()] == [750, 750]
    assert 60 < is_second[:100].sum() < 90  # Mixed, not one after the other.
    # Each source is a stream of permutations of its own.
    for part, length in ((found[~is_second], 7), (found[is_second] - 7, 4)):
        epochs = part[: len(part) // length * length].reshape(-1, length)
        for epoch in epochs:
            assert sorted(epoch) == list(range(length))
        assert len({tuple(epoch) for epoch in epochs}) > 10


def test_any_batch_of_a_mixture_at_once(data):
    source = ksd.data.mix(
        [ksd.data.open_data(each, 8) for each in data], [2, 5]
    )
    found = indices_of(source, 1500, seed=3)
    again = indices_of(source, 200, seed=3, start_step=130)
    np.testing.assert_array_equal(again, found[1300:])
    assert (found[:200] != indices_of(source, 200, seed=4)).any()


def test_a_mixture_by_name(data):
    a, b = data
    name = f"mix:{a}=1,{b}=3"
    sources = ksd.data.open_splits(name, 8)
    expected = ksd.data.mix(
        [ksd.data.open_data(each, 8) for each in data], [1, 3]
    )
    assert sources["train"].fingerprint == expected.fingerprint
    # The held-out images of those that have some, with the same classes.
    assert sources["test"].class_names == ["cat", "dog", "emu"]
    assert [sources["test"][i]["labels"] for i in range(2)] == [2, 2]
    same = ksd.data.open_data(f"mix:{a},{b}", 8)
    assert same.fingerprint == ksd.data.mix(expected.sources).fingerprint
    mixed = ksd.data.open_data(f"mix:{a}=1,vehicles=3", 8)
    assert len(mixed) == 7 + 620 and "ketch" in mixed.class_names


def test_names_of_mixtures(tmp_path, monkeypatch):
    assert parts_of("photos/") == (None, None)
    assert parts_of("mix:a=1,b.zip=0.5") == (["a", "b.zip"], [1.0, 0.5])
    assert parts_of("mix:a, b.zip") == (["a", "b.zip"], None)
    for name in ("mix:a=1,b", "mix:a=x,b=1", "mix:", "mix:a,,b", "mix:=1"):
        with pytest.raises(InputError, match="named like mix:photos/=3"):
            parts_of(name)
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_name("a") == str(tmp_path / "a")
    for name in ("vehicles", "tfds:mnist"):
        assert absolute_name(name) == name
    expected = f"mix:{tmp_path / 'a'}=0.5,vehicles=2"
    assert absolute_name("mix:a=0.5,vehicles=2") == expected


def test_sources_that_do_not_fit(data, tmp_path, write_images):
    a, b = (ksd.data.open_data(each, 8) for each in data)
    write_images(tmp_path / "plain", "1.png")
    for other, message in (
        (ksd.data.open_data("digits", 8), "Received: a ArraySource"),
        (
            ksd.data.open_data(tmp_path / "plain", 8),
            "first has classes, the second no classes",
        ),
        (ksd.data.open_data(data[1], 9), "first has 8 x 8 pixels of 3"),
        (ksd.data.open_data(data[1], 8, crop="random"), "second random crops"),
    ):
        with pytest.raises(InputError, match=message):
            ksd.data.mix([a, other])
    with pytest.raises(InputError, match="needs sources"):
        ksd.data.mix([])
    for weights, message in (
        ([1], "must be 2 numbers"),
        ([1, 0], "above 0"),
        ([1, 1e-5], "at least 1 in 1000"),
    ):
        with pytest.raises(InputError, match=message):
            ksd.data.mix([a, b], weights)
