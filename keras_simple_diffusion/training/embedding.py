"""Embeddings of captions, computed once for many epochs."""

from rich import progress

from keras_simple_diffusion.data.embedding_cache import EmbeddingCache
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.models.text_to_image import make_embedder
from keras_simple_diffusion.text.pretrained_text_encoder import (
    PretrainedTextEncoder,
)
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import resolve_preset


def embed_data(data, preset, output, batch_size=64):
    """Write the embeddings of all captions of the data, in all its splits.

    Killed at any moment, it goes on where it was when it is called again.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.
        preset: string. Name or folder of the preset that gives the encoder.
        output: path of a folder.
        batch_size: int. Number of captions embedded at once. Defaults to
            `64`.

    Returns:
        An `EmbeddingCache`.
    """
    captions = []
    for source in open_splits(data, 8).values():
        captions += source.captions() or []
    encoder = setup.text_encoder(
        resolve_preset(preset, load_weights=False), captions or None
    )
    if not isinstance(encoder, PretrainedTextEncoder):
        raise InputError(
            f"The text encoder of '{preset}' is trained along, so there are no "
            "embeddings to keep."
        )
    cache = EmbeddingCache.create(output, encoder.identity(), captions)
    embed = make_embedder(encoder)
    for start in progress.track(cache.missing(), "embedding"):
        context, mask = embed(cache.texts_of(start), batch_size)
        cache.write(start, context, mask)
    return cache
