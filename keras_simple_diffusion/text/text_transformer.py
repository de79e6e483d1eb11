"""A small text encoder that is trained along, and its learned vocabulary."""

import collections
import re

import keras
import keras_hub
from keras import ops

from keras_simple_diffusion.text.text_encoder import TextEncoder
from keras_simple_diffusion.utils.errors import InputError


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class TextTransformer(TextEncoder):
    """Small transformer that is trained together with the network.

    Its tokens are words (see `learn_vocabulary`). The vocabulary is part of the
    configuration and the weights are part of the model's preset, so the preset
    is complete. The encoder is meant for captions with a few hundred different
    words; for free text use `PretrainedTextEncoder`.

    Args:
        vocabulary: list of strings, see `learn_vocabulary`; or `None` for a
            configuration that `with_vocabulary` completes.
        embedding_dim: int. Width of the transformer. Defaults to `256`.
        num_layers: int. Number of transformer layers. Defaults to `2`.
        num_heads: int. Number of attention heads. Defaults to `4`.
        sequence_length: int. Number of tokens that all texts are padded or
            truncated to. Defaults to `32`.
        **kwargs: base layer keyword arguments.

    Raises:
        InputError: if `vocabulary` was not made by `learn_vocabulary`.

    Example:
    ```python
    captions = ["a red apple", "a ship"]
    encoder = keras_simple_diffusion.text.TextTransformer(
        keras_simple_diffusion.text.learn_vocabulary(captions),
        embedding_dim=32,
        num_layers=1,
    )
    token_ids, text_mask = encoder.tokenize(captions)
    embeddings = encoder(token_ids, text_mask)  # Shape (2, 32, 32).
    ```
    """

    def __init__(
        self,
        vocabulary,
        embedding_dim=256,
        num_layers=2,
        num_heads=4,
        sequence_length=32,
        **kwargs,
    ):
        super().__init__(sequence_length, embedding_dim, **kwargs)
        self.vocabulary = None if vocabulary is None else list(vocabulary)
        self.num_layers = num_layers
        self.num_heads = num_heads
        if vocabulary is None:
            return  # There are no weights without tokens.
        if self.vocabulary[:3] != list(SPECIAL_TOKENS):
            raise InputError(
                "`vocabulary` must be a list returned by "
                "`learn_vocabulary(texts)`. Received: "
                f"vocabulary={str(vocabulary)[:60]}"
            )
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        self.token_embedding = keras_hub.layers.TokenAndPositionEmbedding(
            len(self.vocabulary),
            sequence_length,
            embedding_dim,
            dtype=self.dtype_policy,
            name="tokens",
        )
        self.blocks = [
            keras_hub.layers.TransformerEncoder(
                4 * embedding_dim,
                num_heads,
                normalize_first=True,
                dtype=self.dtype_policy,
                name=f"block_{index}",
            )
            for index in range(num_layers)
        ]
        self.build()

    def build(self, *shapes):
        if self.built:
            return
        self.token_embedding.build((None, self.sequence_length))
        for block in self.blocks:
            block.build((None, self.sequence_length, self.embedding_dim))
        self.built = True

    def with_vocabulary(self, texts):
        if self.vocabulary is not None:
            return self
        config = {**self.get_config(), "vocabulary": learn_vocabulary(texts)}
        return type(self).from_config(config)

    def split(self, text):
        if self.vocabulary is None:
            raise InputError(
                "This text encoder has no vocabulary yet. Use "
                "`encoder.with_vocabulary(captions)`."
            )
        tokens = [self._ids["[START]"]]
        for word in split_words(text):
            tokens += spell(word, self._ids)
        return tokens

    def call(self, token_ids, text_mask):
        x = self.token_embedding(token_ids)
        for block in self.blocks:
            x = block(x, padding_mask=text_mask)
        return x

    def encode_null(self):
        token_ids, text_mask = (
            ops.convert_to_tensor(array, "int32")
            for array in self.tokenize([""])
        )
        return self(token_ids, text_mask), text_mask

    def copy_weights(self, other):
        """Copy the weights of another encoder.

        Embeddings are copied for the tokens that both vocabularies contain.

        Args:
            other: a `TextTransformer` of the same width, depth and sequence
                length, with any vocabulary.

        Returns:
            A list of the tokens whose embeddings were not copied.

        Raises:
            InputError: if shapes differ. No weight is copied then.
        """
        tokens = self.token_embedding.token_embedding.embeddings
        pairs = list(zip(self.weights, other.weights, strict=False))
        if len(self.weights) != len(other.weights) or any(
            ours is not tokens and ours.shape != theirs.shape
            for ours, theirs in pairs
        ):
            raise InputError(
                "Both text encoders must have the same width, depth and "
                f"sequence length. Expected: {_sizes(self)}. Received: "
                f"{_sizes(other)}"
            )
        for ours, theirs in pairs:
            if ours is not tokens:
                ours.assign(ops.copy(ops.convert_to_tensor(theirs)))
        known = other._ids
        common = [token for token in self.vocabulary if token in known]
        rows = ops.convert_to_numpy(tokens).copy()
        found = ops.convert_to_numpy(
            other.token_embedding.token_embedding.embeddings
        )
        rows[[self._ids[token] for token in common]] = found[
            [known[token] for token in common]
        ]
        tokens.assign(rows)
        return [token for token in self.vocabulary if token not in known]

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary": self.vocabulary,
            "embedding_dim": self.embedding_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
        }


def _sizes(encoder):
    names = ("embedding_dim", "num_layers", "num_heads", "sequence_length")
    return ", ".join(f"{name}={getattr(encoder, name)}" for name in names)


# A word including digits, or any other single character.
WORDS = r"\w+|[^\w\s]"
_INSIDE = "##"  # Marks a character that continues a word.
SPECIAL_TOKENS = ("[PAD]", "[START]", "[UNKNOWN]")


def split_words(text):
    """Split a text into lower-case words and punctuation marks."""
    return re.findall(WORDS, text.lower())


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
