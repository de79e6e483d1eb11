from typing import Annotated

import typer

from keras_simple_diffusion.backend.choice import check_backend


def embed(
    data: Annotated[
        str,
        typer.Option(help="Read captions from a folder, a .zip or tfds:NAME."),
    ],
    preset: Annotated[
        str, typer.Option(help="Use the text encoder of this preset.")
    ],
    output: Annotated[
        str,
        typer.Option(
            help="Write to this folder; what it holds is not computed again."
        ),
    ],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Embed so many captions at once.")
    ] = 64,
):
    """Embed captions once, for `train --embeddings`."""
    check_backend()
    from keras_simple_diffusion.training import embed_data

    cache = embed_data(data, preset, output, batch_size)
    print(f"The embeddings of {len(cache.texts)} texts are in {output}")
