"""Word-level tokenization with characters for unknown words."""

import collections
import re

# A word including digits, or any other single character.
_WORDS = re.compile(r"\w+|[^\w\s]")
_INSIDE = "##"  # Marks a character that continues a word.
SPECIAL_TOKENS = ("[PAD]", "[START]", "[UNKNOWN]")


def split_words(text):
    """Split a text into lower-case words and punctuation marks."""
    return _WORDS.findall(text.lower())


def learn_vocabulary(texts, size=8192):
    """Choose the tokens of a vocabulary from example texts.

    The vocabulary consists of special tokens, the single characters (at the
    start of a word, and within a word with the prefix `##`) and the most
    frequent words. Words outside the vocabulary are spelled by characters.

    Args:
        texts: iterable of strings.
        size: int. Largest number of tokens; characters are always included.
            Defaults to `8192`.

    Returns:
        A list of strings.

    Example:
    >>> texts = ["a cat", "a dog"]
    >>> tokens = keras_simple_diffusion.text.learn_vocabulary(texts)
    >>> tokens[:3], tokens[-2:]
    (['[PAD]', '[START]', '[UNKNOWN]'], ['cat', 'dog'])
    """
    counts = collections.Counter()
    for text in texts:
        counts.update(split_words(text))
    signs = {sign for word in counts for sign in word}
    signs |= {_INSIDE + sign for word in counts for sign in word[1:]}
    words = sorted(set(counts) - signs, key=lambda word: (-counts[word], word))
    tokens = [*SPECIAL_TOKENS, *sorted(signs)]
    return [*tokens, *words[: max(size - len(tokens), 0)]]


def spell(word, ids):
    """Return the token ids of a word, or of its characters if it is unknown.

    Args:
        word: string.
        ids: dict from tokens to their ids.

    Returns:
        A list of ints.
    """
    if word in ids:
        return [ids[word]]
    unknown = ids["[UNKNOWN]"]
    pieces = [word[0], *(_INSIDE + sign for sign in word[1:])]
    return [ids.get(piece, unknown) for piece in pieces]
