import pickle

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend

SIZES = [(24, 12), (16, 16), (12, 24)]
# Height and width of the files, and how many there are.
FILES = {(40, 40): 11, (30, 70): 6, (50, 30): 3, (36, 41): 2}
COUNTS = {"24x12": 3, "16x16": 13, "12x24": 6}


@pytest.fixture
def photos(tmp_path, encode):
    """A folder of gray images; image `i` has the value `i` everywhere."""
    shapes = [shape for shape, count in FILES.items() for _ in range(count)]
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, shape in enumerate(shapes):
        pixels = np.full((*shape, 3), i, "uint8")
        (folder / f"{i:02}.png").write_bytes(encode(pixels))
    return folder


@pytest.fixture
def source(photos):
    return ksd.data.put_into_buckets(ksd.data.open_data(photos, 16), SIZES)


def read(source, count, batch_size=4, **options):
    batches = iter(ksd.data.training_batches(source, batch_size, **options))
    return [next(batches)["images"] for _ in range(count)]


def values(batches):
    return [batch[:, 0, 0, 0].tolist() for batch in batches]


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (256, 256)])
def test_sizes_have_one_area(size):
    sizes = ksd.data.bucket_sizes(size, 8, 7)
    assert len(sizes) == 7
    for height, width in sizes:
        assert height % 8 == width % 8 == 0
        assert 0.8 <= height * width / (size[0] * size[1]) <= 1.25
    aspects = np.array([width / height for height, width in sizes])
    expected = 2.0 ** np.linspace(-1, 1, 7)
    np.testing.assert_allclose(aspects, expected, rtol=0.15)
    assert sizes[::-1] == [(width, height) for height, width in sizes]


def test_no_other_size():
    with pytest.raises(InputError, match="multiples of 16"):
        ksd.data.bucket_sizes((16, 16), 16, 3)
    with pytest.raises(InputError, match="count"):
        ksd.data.bucket_sizes((64, 64), 8, 1)


def test_each_image_goes_to_the_nearest_shape(source, photos):
    assert source.counts() == COUNTS
    assert len(source) == 22
    for index in range(22):
        image = source[index]["images"]
        file = (photos / f"{index:02}.png").read_bytes()
        with_shape = Decoder(image.shape[:2])(file)["images"]
        np.testing.assert_array_equal(image, with_shape)
    sizes = [source[index]["images"].shape[:2] for index in range(22)]
    assert (
        sizes
        == [SIZES[1]] * 11 + [SIZES[2]] * 6 + [SIZES[0]] * 3 + [SIZES[1]] * 2
    )


def test_an_image_is_cut_as_its_shape_asks(tmp_path, encode):
    (tmp_path / "a.png").write_bytes(encode(np.zeros((40, 40, 3), "uint8")))
    wide = np.zeros((20, 60, 3), "uint8")
    wide[:, :10], wide[:, 50:] = 255, 255  # That which 1:2 cuts off.
    (tmp_path / "b.png").write_bytes(encode(wide))
    source = ksd.data.open_data(tmp_path, 16)
    source = ksd.data.put_into_buckets(source, SIZES)
    assert source[1]["images"].shape == (12, 24, 3)
    assert source[1]["images"][:, 1:-1].max() == 0


def test_batches_have_one_size_and_use_all_images(source):
    # Per epoch 22 images, 5.5 batches of 4.
    batches = read(source, 550)
    drawn = {size: [] for size in SIZES}
    for batch in batches:
        size = batch.shape[1:3]
        assert batch.shape == (4, *size, 3)
        drawn[size] += batch[:, 0, 0, 0].tolist()
    for size, members in zip(
        SIZES, ([17, 18, 19], [*range(11), 20, 21], range(11, 17)), strict=True
    ):
        stream, length = np.array(drawn[size]), len(members)
        # A bucket has its share to less than a batch in each of 100 epochs.
        assert 100 * length - 4 < len(stream) <= 100 * length
        epochs = stream[: len(stream) // length * length].reshape(-1, length)
        for epoch in epochs:
            assert sorted(epoch) == list(members)
        assert len({tuple(epoch) for epoch in epochs}) > 4
    first = [batch.shape[1:3] for batch in batches[:50]]
    assert set(first) == set(SIZES)
    assert sum(a != b for a, b in zip(first, first[1:], strict=False)) > 15


def test_a_batch_is_a_function_of_its_number(source):
    batches = read(source, 60, seed=3, flip=True)
    for start in (1, 17, 55):
        again = read(source, 5, seed=3, flip=True, start_step=start)
        assert values(again) == values(batches[start : start + 5])
        assert [b.shape for b in again] == [
            b.shape for b in batches[start : start + 5]
        ]
    assert values(read(source, 60, seed=4)) != values(batches)
    # A large number is found at once.
    assert len(read(source, 1, start_step=10**12)) == 1


def test_processes_have_one_size_and_parts_of_the_batch(source):
    whole = read(source, 30, seed=1)
    parts = [
        read(source, 30, seed=1, process_index=i, process_count=2)
        for i in range(2)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(batch, np.concatenate([first, second]))


def test_a_copy_for_another_process(source):
    copy = pickle.loads(pickle.dumps(source))
    assert values(read(copy, 20)) == values(read(source, 20))


def test_the_fingerprint_depends_on_the_sizes(photos, source):
    files = ksd.data.open_data(photos, 16)
    other = ksd.data.put_into_buckets(files, SIZES[:2])
    same = ksd.data.put_into_buckets(files, SIZES)
    prints = {files.fingerprint, other.fingerprint, source.fingerprint}
    assert len(prints) == 3
    assert same.fingerprint == source.fingerprint
    assert same.content_digest() == source.content_digest()


def test_an_image_that_cannot_be_read(photos):
    (photos / "12.png").write_bytes(b"damaged")
    files = ksd.data.open_data(photos, 16)
    source = ksd.data.put_into_buckets(files, SIZES)
    assert source.counts() == {"24x12": 3, "16x16": 14, "12x24": 5}
    with pytest.warns(UserWarning, match="12.png"):
        assert source[12]["images"].shape == (16, 16, 3)


def test_labels_stay_with_their_images(tmp_path, encode):
    for i, shape in enumerate([(20, 20), (20, 40), (20, 20), (20, 40)]):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(np.full((*shape, 3), i, "uint8")))
    source = ksd.data.open_data(tmp_path, 16)
    source = ksd.data.put_into_buckets(source, SIZES)
    assert source.class_names == ["a", "b"]
    batches = iter(ksd.data.training_batches(source, 2))
    for batch in (next(batches) for _ in range(8)):
        wide = batch["images"].shape[2] == 24
        assert batch["labels"].tolist() == [int(wide)] * 2


def test_sources_without_buckets(photos, tmp_path, encode):
    files = ksd.data.open_data(photos, 16)
    arrays = ksd.data.ArraySource(np.zeros((4, 16, 16, 3), "uint8"))
    with pytest.raises(InputError, match="files"):
        ksd.data.put_into_buckets(arrays, SIZES)
    with pytest.raises(InputError, match="weights"):
        ksd.data.put_into_buckets(ksd.data.mix([files, files], [1, 2]), SIZES)
    mixed = ksd.data.put_into_buckets(ksd.data.mix([files, files]), SIZES)
    assert mixed.counts() == {name: 2 * n for name, n in COUNTS.items()}
    turning = ksd.data.open_data(photos, (16, 24), turn_portrait=True)
    with pytest.raises(InputError, match="portrait_flag"):
        ksd.data.put_into_buckets(turning, SIZES)
    (tmp_path / "one").mkdir()
    square = encode(np.zeros((20, 21, 3), "uint8"))
    (tmp_path / "one" / "a.png").write_bytes(square)
    with pytest.raises(InputError, match="nothing to put into buckets"):
        ksd.data.put_into_buckets(
            ksd.data.open_data(tmp_path / "one", 16), SIZES
        )
