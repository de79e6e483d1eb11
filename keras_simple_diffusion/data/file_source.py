import hashlib

from keras_simple_diffusion.data.encoded_source import EncodedSource


class FileSource(EncodedSource):
    """A source of the picture files of a folder or zip.

    Args:
        listing: a `Listing`.
        decoder: a `Decoder`.
        crop: string, see `EncodedSource`. Defaults to `"centre"`.
    """

    def __init__(self, listing, decoder, crop="centre"):
        super().__init__(
            str(listing.container.path),
            decoder,
            crop,
            listing.class_names,
            listing.fingerprint,
        )
        self.listing = listing

    def __len__(self):
        return len(self.listing.names)

    def name(self, index):
        return self.listing.names[index]

    def content_digest(self):
        container, names, *_ = self.listing
        digest = hashlib.sha256(self.fingerprint.encode())
        for name in names:
            digest.update(f"{name} {container.stamp(name)}\n".encode())
        return digest.hexdigest()[:16]

    def captions(self):
        captions = self.listing.captions
        return captions and [text for texts in captions for text in texts]

    def record(self, index):
        container, names, labels, captions, *_ = self.listing
        content = container.read(names[index])
        return content, labels and labels[index], captions and captions[index]
