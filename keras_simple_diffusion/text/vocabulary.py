"""Words and characters as tokens, in plain Python."""

import collections
import re

# Words with their digits, and every other sign alone.
_WORDS = re.compile(r"\w+|[^\w\s]")
_INSIDE = "##"  # Before a character that goes on with a word.
SPECIAL_TOKENS = ("[PAD]", "[START]", "[UNKNOWN]")


def split_words(text):
    """Lower-case words and signs of a text."""
    return _WORDS.findall(text.lower())


def learn_vocabulary(texts, size=8192):
    """The tokens for texts like the given ones.

    They are the most frequent words; others are spelled, so that there is a
    token for each character as well, at the start and inside of a word.

    Args:
        texts: iterable of strings.
        size: int. Largest number of tokens. Defaults to `8192`.

    Returns:
        A list of strings.

    Example:
    >>> keras_simple_diffusion.text.learn_vocabulary(["a cat", "a dog"])
    """
    counts = collections.Counter()
    for text in texts:
        counts.update(split_words(text))
    signs = {sign for word in counts for sign in word}
    signs |= {_INSIDE + sign for word in counts for sign in word[1:]}
    words = sorted(set(counts) - signs, key=lambda word: (-counts[word], word))
    tokens = [*SPECIAL_TOKENS, *sorted(signs)]
    return [*tokens, *words[: max(size - len(tokens), 0)]]


def spell(word, numbers):
    """Numbers of a word's tokens: the word itself, or its characters.

    Args:
        word: string.
        numbers: dict from tokens to their numbers.

    Returns:
        A list of ints.
    """
    if word in numbers:
        return [numbers[word]]
    unknown = numbers["[UNKNOWN]"]
    pieces = [word[0], *(_INSIDE + sign for sign in word[1:])]
    return [numbers.get(piece, unknown) for piece in pieces]
