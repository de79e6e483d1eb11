"""Embeddings of texts, stored in files."""

import json
import pathlib

import ml_dtypes
import numpy as np

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import is_intact
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import seal
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.presets import read_json

_CONFIG = "config.json"
_SHARD_SIZE = 4096


class EmbeddingCache:
    """Stored embeddings of texts.

    The folder holds `config.json`, with the encoder and the texts, and shards
    of up to 4096 texts: `00000000.npy` contains the embeddings of all tokens
    in sequence as the bits of bfloat16, `00000000.lengths.npy` the number of
    tokens of each text. Shards are memory-mapped. Each file ends with a digest
    of its content and of the configuration, which is checked when the file is
    opened. The first text is the empty one; its embeddings are the null
    condition. Shards are written one by one, so an interrupted computation can
    be resumed.

    Args:
        folder: path of the folder.

    Raises:
        InputError: if the folder holds no embeddings, or its configuration is
            damaged.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        if not (self.folder / _CONFIG).exists():
            raise InputError(
                f"'{folder}' holds no embeddings. Make them: "
                f"keras-simple-diffusion embed --output {folder} ..."
            )
        config = read_json(self.folder / _CONFIG)
        self.encoder = config.get("encoder")
        self.texts = config.get("texts")
        if (
            not isinstance(self.encoder, dict)
            or not isinstance(self.encoder.get("sequence_length"), int)
            or not isinstance(self.texts, list)
            or not all(isinstance(text, str) for text in self.texts)
        ):
            raise InputError(
                f"'{self.folder / _CONFIG}' is not that of stored embeddings. "
                "Restore it from a copy, or make them anew."
            )
        self._key = sha256(json.dumps([config, _SHARD_SIZE], sort_keys=True))
        self._rows = {text: row for row, text in enumerate(self.texts)}
        self._mapped = {}

    @classmethod
    def create(cls, folder, encoder, texts):
        """Create a folder, or resume one of the same texts.

        Args:
            folder: path of the folder.
            encoder: dict, the configuration of the encoder.
            texts: iterable of strings; each is stored once.

        Returns:
            An `EmbeddingCache`, to be filled.

        Raises:
            InputError: if the folder holds anything else.
        """
        cls.check_output(folder)
        path = pathlib.Path(folder) / _CONFIG
        texts = ["", *sorted(set(texts) - {""})]
        config = {"encoder": encoder, "texts": texts}
        if not path.exists():
            with whole_file(path) as draft:
                draft.write_text(json.dumps(config) + "\n")
        elif read_json(path) != config:
            raise InputError(
                f"'{folder}' holds embeddings of other texts or of another "
                "encoder. Choose another --output."
            )
        return cls(folder)

    @staticmethod
    def check_output(folder):
        """Raise an `InputError` if a folder holds anything but embeddings.

        Args:
            folder: path.
        """
        has_config = (pathlib.Path(folder) / _CONFIG).exists()
        if not has_config and not is_unused(folder):
            raise InputError(
                f"'{folder}' holds something already. Choose another --output."
            )

    def missing(self):
        """Return the number of the first text of each missing shard.

        Damaged shards are missing, too.
        """
        starts = range(0, len(self.texts), _SHARD_SIZE)
        return [start for start in starts if not self._is_intact(start)]

    def texts_of(self, start):
        """Return the texts of a shard."""
        return self.texts[start : start + _SHARD_SIZE]

    def write(self, start, embeddings, mask):
        """Write a shard.

        Args:
            start: int, one of `missing()`.
            embeddings: float array of shape `(N, L, D)`.
            mask: int array of shape `(N, L)`, zero for padding at the end.
        """
        tokens = embeddings[mask.astype(bool)].astype(ml_dtypes.bfloat16)
        with whole_file(self._path(start, ".lengths")) as draft:
            np.save(draft, mask.sum(axis=1).astype("int32"))
            seal(draft, self._key_of(start, ".lengths"))
        with whole_file(self._path(start)) as draft:
            np.save(draft, tokens.view("uint16"))
            seal(draft, self._key_of(start))

    def read(self, text, sequence_length):
        """Read the embeddings of a text, padded with zeros.

        Args:
            text: string.
            sequence_length: int.

        Returns:
            A tuple of a float32 array of shape `(sequence_length, D)` and an
            int32 mask of shape `(sequence_length,)`.

        Raises:
            InputError: if the text or its shard is missing.
        """
        row = self._rows.get(text)
        if row is None:
            raise InputError(
                f"'{self.folder}' has no embeddings of the caption "
                f"'{text[:80]}'. Run `embed` on the data of this training."
            )
        start = row - row % _SHARD_SIZE
        tokens, ends = self._shard(start)
        end = ends[row - start]
        first = ends[row - start - 1] if row > start else 0
        found = tokens[first:end].view(ml_dtypes.bfloat16)
        embeddings = np.zeros((sequence_length, tokens.shape[1]), "float32")
        embeddings[: end - first] = found
        mask = np.arange(sequence_length) < end - first
        return embeddings, mask.astype("int32")

    def __getstate__(self):
        return {**self.__dict__, "_mapped": {}}

    def _shard(self, start):
        if start not in self._mapped:
            if not self._is_intact(start):
                raise InputError(
                    f"'{self.folder}' is incomplete: {len(self.missing())} of "
                    "its files are missing or damaged. Run the same `embed` "
                    "again."
                )
            lengths = np.load(self._path(start, ".lengths"))
            tokens = np.load(self._path(start), mmap_mode="r")
            if tokens.ndim != 2 or (
                lengths.shape != (len(self.texts_of(start)),)
                or lengths.sum() != len(tokens)
            ):
                raise InputError(
                    f"'{self._path(start)}' does not hold the embeddings of "
                    "its texts. Remove it, and run the same `embed` again."
                )
            self._mapped[start] = tokens, np.cumsum(lengths)
        return self._mapped[start]

    def _is_intact(self, start):
        return all(
            is_intact(self._path(start, kind), self._key_of(start, kind))
            for kind in ("", ".lengths")
        )

    def _key_of(self, start, kind=""):
        return f"{self._key} {start}{kind}"

    def _path(self, start, kind=""):
        return self.folder / f"{start:08d}{kind}.npy"
