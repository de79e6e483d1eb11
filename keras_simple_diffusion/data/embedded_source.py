from keras_simple_diffusion.data.sources import PictureSource


class EmbeddedSource(PictureSource):
    """A source with embeddings in the place of captions.

    Args:
        source: a `PictureSource` with captions.
        cache: an `EmbeddingCache` that holds all of them.
        sequence_length: int. Length that the embeddings are padded to.
    """

    def __init__(self, source, cache, sequence_length):
        super().__init__(
            source.image_shape, source.class_names, source.fingerprint
        )
        self.source = source
        self.cache = cache
        self.sequence_length = sequence_length

    def __len__(self):
        return len(self.source)

    def captions(self):
        return self.source.captions()

    def example(self, index, rng=None):
        example = self.source.example(index, rng)
        caption = str(example.pop("captions"))
        embeddings = self.cache.read(caption, self.sequence_length)
        example["context"], example["context_mask"] = embeddings
        return example
