import os
import pickle

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.sources import DecodedSource
from keras_simple_diffusion.data.sources import EmbeddedSource
from keras_simple_diffusion.data.sources import RelabelledSource
from keras_simple_diffusion.data.sources import _Subset
from keras_simple_diffusion.data.sources import keep_decoded
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.data.sources import take

pytestmark = pytest.mark.any_backend


def test_arrays():
    images = np.arange(24, dtype="uint8").reshape(3, 2, 4, 1)
    source = ksd.data.ArraySource(
        images, [2, 0, 1], ["a", "b", "c"], ["one", "two", "three"]
    )
    assert len(source) == 3 and source.image_shape == (2, 4, 1)
    assert source.class_names == ["a", "b", "c"]
    np.testing.assert_array_equal(source[2]["images"], images[2])
    assert source[0]["labels"] == 2 and source[0]["labels"].dtype == "int32"
    assert source[1]["captions"] == "two"
    copy = pickle.loads(pickle.dumps(source))
    assert copy.fingerprint == source.fingerprint and copy[1].keys() == {
        "images",
        "labels",
        "captions",
    }
    other = images.copy()
    other[1, 1, 1] += 1
    assert ksd.data.ArraySource(other).fingerprint != (
        ksd.data.ArraySource(images).fingerprint
    )
    with pytest.raises(ValueError, match="'labels': 2"):
        ksd.data.ArraySource(images, [0, 1])


def test_digits_by_name():
    source = ksd.data.open_data("digits", 16, "test")
    assert len(source) == 360 and source.image_shape == (16, 16, 1)
    assert source.class_names == [str(digit) for digit in range(10)]
    images, labels = ksd.data.load_digits(16, "test")
    np.testing.assert_array_equal(source[7]["images"], images[7])
    assert source[7]["labels"] == labels[7]


def test_take_is_the_same_choice_in_every_call():
    source = ksd.data.ArraySource(
        np.arange(50, dtype="uint8").reshape(50, 1, 1, 1)
    )
    assert take(source, 50) is source
    few = take(source, 8)
    values = [int(few[i]["images"].item()) for i in range(len(few))]
    assert len(set(values)) == 8
    again = take(source, 8)
    assert values == [int(again[i]["images"].item()) for i in range(8)]
    other = take(source, 8, seed=1)
    assert values != [int(other[i]["images"].item()) for i in range(8)]


def test_digests_tell_which_images_are_taken(tmp_path, write_images):
    write_images(tmp_path, *(f"{i}.png" for i in range(6)))
    source = ksd.data.open_data(tmp_path, 8)
    few, others = take(source, 3), take(source, 3, seed=1)
    for digest in (lambda each: each.fingerprint, lambda e: e.content_digest()):
        assert len({digest(each) for each in (source, few, others)}) == 3
        assert digest(take(source, 3)) == digest(few)
    before = [few.content_digest(), DecodedSource(few).content_digest()]
    assert before[0] == before[1]
    for path in tmp_path.iterdir():
        os.utime(path, ns=(1, 1))
    # A replaced file is told, whatever is around the source.
    assert not {few.content_digest()} & {*before}
    assert DecodedSource(few).content_digest() == few.content_digest()
    embedded = EmbeddedSource(source, None, 4)
    assert embedded.content_digest() == source.content_digest()


@pytest.fixture
def captioned(tmp_path, write_images):
    """A source of four images in two classes, with two captions each."""
    write_images(tmp_path, "a/0.png", "a/1.png", "b/2.png", "b/3.png")
    for path in list(tmp_path.rglob("*.png")):
        text = f"no. {path.stem}\nmore of {path.stem}\n"
        path.with_suffix(".txt").write_text(text)
    return ksd.data.open_data(tmp_path, 8)


def test_labels_and_captions_of_sources_of_sources(captioned):
    texts = [[f"no. {i}", f"more of {i}"] for i in range(4)]
    known = list(zip([0, 0, 1, 1], texts, strict=True))
    assert captioned.annotations() == known
    swapped = list(zip([2, 2, 0, 0], texts, strict=True))
    bare = [(None, each) for each in texts]
    chosen = [3, 1]
    for source, expected in (
        (DecodedSource(captioned), known),
        (EmbeddedSource(captioned, None, 4), known),
        (RelabelledSource(captioned, ["b", "c", "a"], [2, 0]), swapped),
        (RelabelledSource(captioned, None), bare),
        (_Subset(captioned, chosen), [known[i] for i in chosen]),
    ):
        found = source.annotations()
        assert found == expected, type(source)
        assert source.captions() == [t for _, each in found for t in each]
        assert source.has_captions and source.buckets is None
        # Of several captions none is kept for all epochs.
        assert keep_decoded(source) is source
    plain = ksd.data.ArraySource(np.zeros((3, 1, 1, 1), "uint8"))
    assert take(plain, 2).captions() is None


def test_stack():
    examples = [{"images": np.zeros((2, 2, 1)), "captions": "a"}] * 3
    assert stack(examples)["captions"].tolist() == ["a"] * 3
    assert stack(examples, ("images", "labels")).keys() == {"images"}
    assert stack(examples)["images"].shape == (3, 2, 2, 1)
