import contextlib
import hashlib
import pathlib
import re
import types
import warnings

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_simple_diffusion.backend.keras_internals import builtin_handle
from keras_simple_diffusion.backend.keras_internals import is_downloaded
from keras_simple_diffusion.text.text_encoder import TextEncoder
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import check_folder

_BYTES_HASHED = 2**20  # Of each file; different weights differ from the start.


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class PretrainedTextEncoder(TextEncoder):
    """Frozen text encoder from keras_hub, such as the encoder of T5.

    The preset of a model stores the encoder's name and revision and the
    embeddings of the empty text, but not the encoder's weights. The encoder is
    loaded when the first text is tokenized. An encoder that is named by the
    preset of a model, unless it is a preset of this package, is not
    downloaded: it must be on this machine already.

    Embeddings are rounded to bfloat16, the format of
    `keras_simple_diffusion.data.EmbeddingCache`, so training from cached
    embeddings gives the same result.

    Args:
        preset: string. A preset of keras_hub, such as `"t5_1.1_xxl"`, a
            folder, or an `hf://` or `kaggle://` handle. The backbone must map
            token ids and a padding mask to one embedding per token, as T5,
            BERT and Gemma do.
        sequence_length: int. Number of tokens that all texts are padded or
            truncated to. Defaults to `128`.
        embedding_dim: int. Width of the embeddings. Defaults to that of the
            encoder, which is then loaded immediately.
        revision: string. Expected revision, see `find_revision`. Defaults to
            the current one.
        dtype: dtype policy of the encoder. Defaults to `"float32"`.
        **kwargs: base layer keyword arguments.

    Raises:
        InputError: if the preset does not exist, has another revision, has an
            unsupported backbone, or cannot be downloaded.

    Example:
    ```python
    # The weights are downloaded when the first text is tokenized.
    encoder = keras_simple_diffusion.text.PretrainedTextEncoder(
        "t5_1.1_xxl", embedding_dim=4096, dtype="bfloat16"
    )
    ```

    References:
        - [Raffel et al., 2019](https://arxiv.org/abs/1910.10683)
    """

    # Set to `False` where a stranger may have chosen the encoder.
    may_download = True

    def __init__(
        self,
        preset,
        sequence_length=128,
        embedding_dim=None,
        revision=None,
        dtype="float32",
        **kwargs,
    ):
        _check_preset(preset)
        found = find_revision(preset)
        if revision not in (None, found):
            raise InputError(
                f"The text encoder '{preset}' has changed. Expected the "
                f"revision that the model was trained with: {revision}. "
                f"Received: {found}. Restore the old encoder, or pass it as "
                "`text_encoder`."
            )
        loaded = None
        if embedding_dim is None:
            loaded = _load(preset, dtype)
            embedding_dim = loaded.network.output_shape[-1]
        super().__init__(sequence_length, embedding_dim, dtype=dtype, **kwargs)
        self.preset = str(preset)
        self.revision = found
        shape = (1, sequence_length)
        self.null_context = self._constant(
            "null_context", (*shape, embedding_dim), "float32"
        )
        self.null_mask = self._constant("null_mask", shape, "int32")
        self.trainable = False
        self.built = True
        self._loaded = loaded
        if loaded is not None:
            self._embed_null()

    def _constant(self, name, shape, dtype):
        return self.add_weight(
            shape=shape,
            initializer="zeros",
            dtype=dtype,
            trainable=False,
            autocast=False,
            name=name,
        )

    @property
    def variables(self):
        return [*super().variables, *self.borrowed_variables]

    @property
    def borrowed_variables(self):
        # Keras does not track the network, so it is not saved.
        return [] if self._loaded is None else self._loaded.network.variables

    def load(self):
        """Load the weights and the tokenizer if they are not loaded yet."""
        if self._loaded is None:
            if not self.may_download:
                _check_is_here(self.preset)
            self._loaded = _load(self.preset, self.dtype_policy)
            self._embed_null()

    def split(self, text):
        self.load()
        tokenizer = self._loaded.tokenizer
        tokens = np.asarray(tokenizer.tokenize(text)).tolist()
        start = getattr(tokenizer, "start_token_id", None)
        end = tokenizer.end_token_id
        start = [] if start in (None, end) else [start]
        room = self.sequence_length - len(start) - 1
        return [*start, *tokens[:room], end]

    def call(self, token_ids, text_mask):
        if self._loaded is None:
            raise InputError(
                f"The text encoder '{self.preset}' is not loaded. Call its "
                "`load()`, or train from embeddings."
            )
        network = self._loaded.network
        inputs = {
            name: _input_of(name, token_ids, text_mask)
            for name in network.input
        }
        with _quiet():
            embeddings = network(inputs, training=False)
        embeddings = ops.stop_gradient(embeddings)
        embeddings = ops.cast(ops.cast(embeddings, "bfloat16"), "float32")
        return embeddings * ops.expand_dims(ops.cast(text_mask, "float32"), -1)

    def encode_null(self):
        return (
            ops.convert_to_tensor(self.null_context, "float32"),
            ops.convert_to_tensor(self.null_mask, "int32"),
        )

    def set_null(self, context, mask):
        """Set the embeddings of the empty text from cached ones.

        Args:
            context: float32 array of shape
                `(1, sequence_length, embedding_dim)`.
            mask: int32 array of shape `(1, sequence_length)`.
        """
        self.null_context.assign(context)
        self.null_mask.assign(mask)

    def identity(self):
        """Return everything that determines the embeddings, as JSON types."""
        return {
            "preset": self.preset,
            "revision": self.revision,
            "sequence_length": self.sequence_length,
            "dtype": self.dtype_policy.name,
        }

    def _embed_null(self):
        tokens = map(ops.convert_to_tensor, self.tokenize([""]))
        token_ids, text_mask = tokens
        self.set_null(self(token_ids, text_mask), text_mask)

    def get_config(self):
        return {
            **super().get_config(),
            "preset": self.preset,
            "embedding_dim": self.embedding_dim,
            "revision": self.revision,
        }

    @classmethod
    def from_config(cls, config):
        """Make the encoder that the preset of a model names.

        A stranger may have named it. It downloads nothing, and reads a folder
        only with the digest of its files, which are those of the training
        then.
        """
        _check_preset(config.get("preset"))
        needed = ["embedding_dim"]  # Without it, it is loaded immediately.
        if _is_folder(config["preset"]):
            needed.append("revision")
        for name in needed:
            if config.get(name) is None:
                raise InputError(
                    "The configuration of a PretrainedTextEncoder must have "
                    f"`{name}`. Add it, or pass the encoder as `text_encoder`."
                )
        encoder = super().from_config(config)
        encoder.may_download = False
        return encoder


def _check_preset(preset):
    if not isinstance(preset, (str, pathlib.Path)):
        raise InputError(
            "`preset` must be the name, folder or handle of a preset. "
            f"Received: preset={preset!r}"
        )


def _is_folder(preset):
    preset = str(preset)
    return "://" not in preset and builtin_handle(preset) is None


def _check_is_here(preset):
    """Raise an `InputError` if a preset would have to be downloaded."""
    if _is_folder(preset) or is_downloaded(preset):
        return
    handle = builtin_handle(preset) or preset
    scheme, _, name = handle.partition("://")
    way = ""
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", name):
        way = _DOWNLOADS.get(scheme, "").format(name)
    raise InputError(
        f"The model needs the text encoder '{handle}', which is not on this "
        f"machine and is not downloaded unasked. If you trust it, {way}pass "
        "`text_encoder=PretrainedTextEncoder(...)` in Python."
    )


# By the hubs' own clients, in whose cache keras_hub finds it.
_DOWNLOADS = {
    "hf": "run `hf download {0}`, or ",
    "kaggle": 'run `python -c "import kagglehub; '
    "kagglehub.model_download('{0}')\"`, or ",
}


def find_revision(preset):
    """Identify the version of a preset without downloading it.

    Args:
        preset: string, see `PretrainedTextEncoder`.

    Returns:
        A string: the handle including its version, or for a folder a digest of
        the names, sizes and first MiB of its files.

    Raises:
        InputError: if the preset does not exist.
    """
    preset = str(preset)
    if "://" in preset:
        return preset
    handle = builtin_handle(preset)
    if handle is not None:
        return handle
    folder = pathlib.Path(preset)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"The text encoder '{preset}' was not found: it is neither a "
            "preset of keras_hub nor a folder of one. Restore it, or pass a "
            "copy of it as `text_encoder=PretrainedTextEncoder(...)`."
        )
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(_BYTES_HASHED))
    return f"sha256:{digest.hexdigest()[:32]}"


@contextlib.contextmanager
def _quiet():
    """Suppress the warning that T5 passes a mask to its layers."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Layer '.*' .of type T5MultiHeadAttention. was passed"
        )
        yield


@_quiet()
def _load(preset, dtype):
    preset = str(preset)
    if _is_folder(preset):
        check_folder(preset)
    try:
        backbone = keras_hub.models.Backbone.from_preset(preset, dtype=dtype)
        tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(preset)
    except Exception as error:  # Each client of a hub has its own.
        reason = " ".join(str(error).split())
        raise InputError(
            f"The text encoder '{preset}' cannot be loaded: {reason[:300]} "
            "Without a network, pass the folder of a copy as "
            "`text_encoder=PretrainedTextEncoder(FOLDER)`."
        ) from error
    inputs, outputs = backbone.input, backbone.output
    if isinstance(outputs, dict):
        for name in ("encoder_sequence_output", "sequence_output"):
            outputs = outputs.get(name, outputs)
            if not isinstance(outputs, dict):
                break
    inputs = {
        name: tensor
        for name, tensor in inputs.items()
        if not name.startswith("decoder_")
    }
    unknown = [name for name in inputs if _input_of(name, 0, 0) is None]
    if unknown or isinstance(outputs, dict):
        raise InputError(
            "A text encoder must map token ids and a padding mask to one "
            f"embedding per token. Received: '{preset}', a "
            f"{type(backbone).__name__} with the inputs {list(backbone.input)}"
        )
    network = keras.Model(inputs, outputs, name="pretrained")
    network.trainable = False
    return types.SimpleNamespace(network=network, tokenizer=tokenizer)


def _input_of(name, token_ids, text_mask):
    if name.endswith("token_ids"):
        return token_ids
    if name.endswith("padding_mask"):
        return text_mask
    if name == "segment_ids":
        return ops.zeros_like(token_ids)
    return None
