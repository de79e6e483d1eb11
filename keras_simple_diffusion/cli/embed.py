from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend


def embed(
    data: Annotated[
        str,
        typer.Option(help="A folder or .zip with captions, or tfds:NAME."),
    ],
    preset: Annotated[
        str, typer.Option(help="Whose text encoder to use, see `presets`.")
    ],
    output: Annotated[
        str,
        typer.Option(help="Folder of the embeddings; goes on filling it."),
    ],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Captions embedded at once.")
    ] = 64,
):
    """Embed captions once, for `train --embeddings`."""
    check_backend()
    from keras_simple_diffusion.training.embedding import embed_data

    cache = embed_data(data, preset, output, batch_size)
    print(f"The embeddings of {len(cache.texts)} texts are in {output}")
