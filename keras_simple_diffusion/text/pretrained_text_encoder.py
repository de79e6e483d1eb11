import contextlib
import hashlib
import pathlib
import types
import warnings

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_simple_diffusion.text.text_encoder import TextEncoder
from keras_simple_diffusion.utils.errors import InputError

_BYTES_HASHED = 2**20  # Of each file: weights differ from their start on.


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class PretrainedTextEncoder(TextEncoder):
    """A frozen text encoder of keras_hub, such as the encoder half of T5.

    Its weights stay where they are: a model's preset names it and its
    revision, and holds the embeddings of the empty text. It is loaded when
    the first text is tokenized.

    Embeddings are rounded to bfloat16, as
    `keras_simple_diffusion.data.EmbeddingCache` stores them, so that training
    from stored ones is the same.

    Args:
        preset: string. A preset of keras_hub, such as `"t5_1.1_xxl"`, a
            folder, or an `hf://` or `kaggle://` handle. Backbones like T5, BERT
            and Gemma are understood: from token ids and padding mask to one
            embedding a token.
        sequence_length: int. Length that all texts are padded or cut to, in
            tokens. Defaults to `128`.
        embedding_dim: int. Defaults to that of the encoder, which is loaded
            at once then.
        revision: string. What must be found, see `find_revision`. Defaults to
            what there is.
        dtype: dtype policy that the encoder is run in. Defaults to
            `"float32"`.
        **kwargs: base layer keyword arguments.

    Example:
    >>> encoder = keras_simple_diffusion.text.PretrainedTextEncoder(
    ...     "t5_1.1_xxl", dtype="bfloat16"
    ... )

    References:
        - [Raffel et al., 2019](https://arxiv.org/abs/1910.10683)
    """

    def __init__(
        self,
        preset,
        sequence_length=128,
        embedding_dim=None,
        revision=None,
        dtype="float32",
        **kwargs,
    ):
        found = find_revision(preset)
        if revision not in (None, found):
            raise InputError(
                f"The text encoder '{preset}' has changed: the model was "
                f"trained with revision {revision}. Received: {found}. Bring "
                "the old one back, or pass it as `text_encoder`."
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
        # The network is no attribute that Keras sees, and would save.
        return [] if self._loaded is None else self._loaded.network.variables

    def load(self):
        """Load weights and tokenizer, unless that is done."""
        if self._loaded is None:
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
                f"The text encoder '{self.preset}' is not loaded yet: call its "
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
            ops.convert_to_tensor(self.null_context),
            ops.convert_to_tensor(self.null_mask),
        )

    def set_null(self, context, mask):
        """Set the embeddings of the empty text, where they are stored."""
        self.null_context.assign(context)
        self.null_mask.assign(mask)

    def identity(self):
        """What its embeddings depend on, as a dict of JSON types."""
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


def find_revision(preset):
    """What tells one state of a preset from another; downloads nothing.

    Args:
        preset: string, see `PretrainedTextEncoder`.

    Returns:
        A string: the handle with its version, or a digest of the folder's
        files, of the first MiB of each.

    Raises:
        InputError: if there is no such preset.
    """
    preset = str(preset)
    if "://" in preset:
        return preset
    known = keras_hub.models.Backbone.presets
    if preset in known:
        return known[preset]["kaggle_handle"]
    folder = pathlib.Path(preset)
    if not folder.is_dir():
        raise InputError(
            f"The text encoder '{preset}' is not there: it is neither a preset "
            "of keras_hub nor a folder. Put it back, or pass another place of "
            "it as `text_encoder=PretrainedTextEncoder(...)`."
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
    """Context without the warning that T5 gives its layers a mask."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Layer '.*' .of type T5MultiHeadAttention. was passed"
        )
        yield


@_quiet()
def _load(preset, dtype):
    backbone = keras_hub.models.Backbone.from_preset(str(preset), dtype=dtype)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(preset))
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
            "A text encoder must turn token ids and a padding mask into one "
            f"embedding a token. Received: '{preset}', a "
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
