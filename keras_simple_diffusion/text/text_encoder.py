import keras
import numpy as np

from keras_simple_diffusion.utils.errors import InputError


class TextEncoder(keras.layers.Layer):
    """Base class of what turns texts into embeddings, one a token.

    Texts become token ids outside of compiled code, padded or cut to one
    length, so that no text is a reason to compile anew; `call` turns these
    into embeddings inside of it.

    A subclass defines `split`, `call` and `encode_null`.

    Args:
        sequence_length: int. Length that all texts are padded or cut to, in
            tokens.
        embedding_dim: int. Width of the embeddings.
        **kwargs: base layer keyword arguments.

    Call arguments:
        token_ids: int tensor of shape `(B, sequence_length)`.
        text_mask: int tensor of the same shape, zero for padding.

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
        """Variables that are loaded from elsewhere, not from our preset."""
        return []

    def split(self, text):
        """Split a text into tokens.

        Args:
            text: string.

        Returns:
            A list of at least one int, of any length.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def encode_null(self):
        """Embeddings of the empty text, which stand for no text at all.

        Returns:
            A tuple of tensors: embeddings of shape
            `(1, sequence_length, embedding_dim)`, and mask of shape
            `(1, sequence_length)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def tokenize(self, texts):
        """Turn texts into token ids, padded with zeros.

        Args:
            texts: list or array of strings, or of their bytes.

        Returns:
            A tuple `(token_ids, text_mask)` of int32 arrays of shape
            `(len(texts), sequence_length)`.
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
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "sequence_length": self.sequence_length,
        }

    @classmethod
    def from_config(cls, config):
        # The base class would wrap an `InputError` into another error.
        dtype = config.get("dtype")
        if isinstance(dtype, dict):
            dtype = keras.dtype_policies.deserialize(dtype)
        return cls(**{**config, "dtype": dtype})


def to_string(text):
    """A text as a string, or an `InputError`."""
    if isinstance(text, bytes):
        return text.decode()
    if not isinstance(text, str):
        raise InputError(
            f"Texts must be strings. Received: {type(text).__name__} {text!r}"
        )
    return str(text)
