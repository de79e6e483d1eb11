import pytest

from keras_simple_diffusion.text import TextTransformer
from keras_simple_diffusion.text import learn_vocabulary
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend

TEXTS = ["A red apple, sliced", "a red ship", "the red cat"]


def split(text, **kwargs):
    vocabulary = learn_vocabulary(TEXTS, **kwargs)
    encoder = TextTransformer(vocabulary, embedding_dim=4, num_heads=1)
    return [vocabulary[number] for number in encoder.split(text)]


def test_known_words_are_tokens():
    assert split("the RED apple.") == [
        "[START]",
        "the",
        "red",
        "apple",
        "[UNKNOWN]",
    ]


def test_other_words_are_spelled():
    assert split("slice") == ["[START]", "s", "##l", "##i", "##c", "##e"]
    assert split("éat")[1:] == ["[UNKNOWN]", "##a", "##t"]


def test_frequent_words_come_first_where_room_is_short():
    signs = len(learn_vocabulary(TEXTS, size=0))
    kept = learn_vocabulary(TEXTS, size=signs + 1)
    assert kept[signs:] == ["red"]
    assert split("a red cat", size=signs + 1)[1:] == [
        "a",
        "red",
        "c",
        "##a",
        "##t",
    ]


def test_vocabulary_is_the_same_in_any_order():
    assert learn_vocabulary(TEXTS) == learn_vocabulary(TEXTS[::-1])


def test_a_list_of_words_is_no_vocabulary():
    with pytest.raises(InputError, match="learn_vocabulary"):
        TextTransformer(["a", "b"])
