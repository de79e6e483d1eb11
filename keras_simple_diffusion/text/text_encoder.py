import keras
import numpy as np

from keras_simple_diffusion.utils.errors import InputError


class TextEncoder(keras.layers.Layer):
    """Base class of text encoders, which return one embedding per token.

    `tokenize` converts texts to token ids of a fixed length outside of compiled
    code, so new texts never cause a compilation. `call` converts token ids to
    embeddings inside compiled code.

    A subclass defines `split`, `call` and `encode_null`.

    Args:
        sequence_length: int. Number of tokens that all texts are padded or
            truncated to.
        embedding_dim: int. Width of the embeddings.
        **kwargs: base layer keyword arguments.

    Call arguments:
        token_ids: int tensor of shape `(B, sequence_length)`.
        text_mask: int tensor of the same shape, one for tokens and zero for
            padding.

    Output shape:
        `(B, sequence_length, embedding_dim)`.
    """

    def __init__(self, sequence_length, embedding_dim, **kwargs):
        super().__init__(**kwargs)
        if not sequence_length >= 1:
            raise InputError(
                "`sequence_length` must be at least 1. Received: "
                f"sequence_length={sequence_length}"
            )
        self.sequence_length = sequence_length
        self.embedding_dim = embedding_dim

    @property
    def borrowed_variables(self):
        """Variables that are not stored in the preset of a model."""
        return []

    def with_vocabulary(self, texts):
        """Return an encoder that has a vocabulary.

        Args:
            texts: iterable of strings, from which it is learned if this
                encoder has none yet.

        Returns:
            A `TextEncoder`: this one, unless it has no vocabulary.
        """
        return self

    def split(self, text):
        """Split a text into token ids.

        Args:
            text: string.

        Returns:
            A list of ints with at least one element.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def encode_null(self):
        """Embed the empty text, the unconditional input of guidance.

        Returns:
            A tuple of tensors: embeddings of shape
            `(1, sequence_length, embedding_dim)` and the mask of shape
            `(1, sequence_length)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def tokenize(self, texts):
        """Convert texts to token ids, padded with zeros.

        Args:
            texts: list or array of strings or UTF-8 bytes.

        Returns:
            A tuple `(token_ids, text_mask)` of int32 arrays of shape
            `(len(texts), sequence_length)`.

        Raises:
            InputError: if a text is no string.
        """
        shape = (len(texts), self.sequence_length)
        token_ids, text_mask = (
            np.zeros(shape, "int32"),
            np.zeros(shape, "int32"),
        )
        for row, text in enumerate(texts):
            tokens = self.split(to_string(text))[: self.sequence_length]
            token_ids[row, : len(tokens)] = tokens
            text_mask[row, : len(tokens)] = 1
        return token_ids, text_mask

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "sequence_length": self.sequence_length,
        }

    @classmethod
    def from_config(cls, config):
        # The base class would replace an `InputError` by another error.
        dtype = config.get("dtype")
        if isinstance(dtype, dict):
            dtype = keras.dtype_policies.deserialize(dtype)
        config = {**config, "dtype": dtype}
        trainable = config.pop("trainable", True)
        encoder = cls(**config)
        if not trainable:  # As an argument it would freeze no layer within.
            encoder.trainable = False
        return encoder


def to_string(text):
    """Decode a text, or raise an `InputError` for other types."""
    if isinstance(text, bytes):
        return text.decode()
    if not isinstance(text, str):
        raise InputError(
            f"Texts must be strings. Received: {type(text).__name__} {text!r}"
        )
    return str(text)
