"""Captions of a run: their encoder, stored embeddings, prompts of samples."""

import contextlib

import numpy as np
from rich import progress

from keras_simple_diffusion.backend.native import from_main_process
from keras_simple_diffusion.data.embedding_cache import EmbeddingCache
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.distribution.processes import entered_by_main
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.models.text_to_image import make_embedder
from keras_simple_diffusion.text.pretrained_text_encoder import (
    PretrainedTextEncoder,
)
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import locked_folder

_NUM_PROMPTS = 36


def make_text_encoder(preset, captions):
    """Build the text encoder of a preset.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
        captions: list of strings from which the vocabulary is learned if the
            preset has none, or `None` if the data has no captions.

    Returns:
        A `TextEncoder`.

    Raises:
        InputError: if there are no captions, or the preset takes no text.
    """
    encoder = preset.part("text_encoder")
    if encoder is None:
        raise InputError(
            f"The preset '{preset.name}' has no text encoder: its images have "
            "no captions. `presets` lists those with text."
        )
    check_captions(captions)
    return encoder.with_vocabulary(captions)


def check_captions(captions):
    """Raise an `InputError` if there are no captions for a model of texts."""
    if not captions:
        raise InputError(
            "The preset is for images with captions, and the data, or one of "
            "its splits, has none. "
            "Put them into a metadata.jsonl beside the images, with lines "
            'such as {"file_name": "1.jpg", "text": "a red apple"}.'
        )


def check_has_pretrained_encoder(preset):
    """Raise an `InputError` if a preset cannot use stored embeddings.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
    """
    if not isinstance(preset.part("text_encoder"), PretrainedTextEncoder):
        raise InputError(
            f"`embeddings` are those of a pretrained text encoder, which "
            f"'{preset.name}' does not have. Leave them out, or use a preset "
            "with one, such as uvit_text_256."
        )


def embed_data(data, preset, output, batch_size=64):
    """Write the embeddings of all captions of the data, in all its splits.

    After an interruption, a second call computes only what is missing or
    damaged. All processes take part, and the main one writes.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.
        preset: string, path or `keras_simple_diffusion.models.Preset` that
            gives the encoder.
        output: path of the folder of the embeddings.
        batch_size: int. Number of captions embedded at once. Defaults to
            `64`.

    Returns:
        An `EmbeddingCache`.

    Raises:
        InputError: if the data has no captions, if the encoder is trained
            together with the network, or if another process writes to the
            folder.
    """
    EmbeddingCache.check_output(output)
    preset = Preset.open(preset)
    captions = []
    for source in open_splits(data, 8).values():
        captions += source.captions() or []
    encoder = make_text_encoder(preset, captions)
    if not isinstance(encoder, PretrainedTextEncoder):
        raise InputError(
            f"The text encoder of '{preset.name}' is trained together with the "
            "network, so its embeddings cannot be computed in advance."
        )
    with entered_by_main(_created(output, encoder.identity(), captions)):
        cache = EmbeddingCache(output)
        embed = make_embedder(encoder)
        # The main process decides: it may already write while others look.
        missing = from_main_process(np.array(cache.missing(), "int64"))
        for start in progress.track(
            missing.tolist(), "embedding", disable=not is_main_process()
        ):
            context, mask = embed(cache.texts_of(start), batch_size)
            if is_main_process():
                cache.write(start, context, mask)
        wait_for_all()
    return cache


@contextlib.contextmanager
def _created(folder, encoder, texts):
    with locked_folder(folder):
        EmbeddingCache.create(folder, encoder, texts)
        yield


def use_embeddings(cache, encoder):
    """Give an encoder the null embedding of a cache, so that it need not load.

    Args:
        cache: an `EmbeddingCache`.
        encoder: a `PretrainedTextEncoder`.

    Raises:
        InputError: if the cache holds embeddings of another encoder.
    """
    if cache.encoder != encoder.identity():
        raise InputError(
            f"'{cache.folder}' holds embeddings of another encoder. Received: "
            f"{cache.encoder}. The model's is {encoder.identity()}."
        )
    context, mask = cache.read("", encoder.sequence_length)
    encoder.set_null(context[None], mask[None])


def choose_prompts(captions):
    """Choose captions at equal distances of their order for sheets of samples.

    Args:
        captions: list of strings, or `None`.

    Returns:
        A list of 36 strings, or `None` without captions. Fewer captions are
        repeated.
    """
    captions = sorted(set(captions or ()))
    if not captions:
        return None
    chosen = np.arange(_NUM_PROMPTS) * len(captions) // _NUM_PROMPTS
    return [captions[index] for index in chosen]
