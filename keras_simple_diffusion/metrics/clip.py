"""Features of CLIP, and the CLIP score."""

import keras_hub
import numpy as np

from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.distribution.batches import run_batches
from keras_simple_diffusion.metrics.image_features import ImageFeatures
from keras_simple_diffusion.metrics.image_features import hub_errors
from keras_simple_diffusion.metrics.image_features import load_network
from keras_simple_diffusion.metrics.image_features import weights_digest
from keras_simple_diffusion.metrics.resizing import normalize_images
from keras_simple_diffusion.metrics.resizing import resize_cubic
from keras_simple_diffusion.utils.errors import InputError

# Mean and deviation of the images that CLIP was trained on.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class CLIPFeatures(ImageFeatures):
    """Embeddings of images and of text by CLIP.

    Images that are not square are cropped at the center.

    Args:
        preset: string. The name of a preset of
            `keras_hub.models.CLIPBackbone`, downloaded once, a preset folder
            or a handle. Defaults to `"clip_vit_base_patch32"`, which the CLIP
            score was published with.
        batch_size: int. Images or prompts in one pass. Defaults to `32`.

    Attributes:
        name: string that changes whenever the features do.
        size: int. Number of features of an image.
        batch_size: int. Images in one pass.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.

    Returns:
        A float32 array of shape `(N, size)`.

    Example:
    >>> features = keras_simple_diffusion.metrics.CLIPFeatures()
    >>> prompts = ["a red apple", "a ship"]
    >>> keras_simple_diffusion.metrics.clip_score(
    ...     features(images), features.embed_text(prompts))

    References:
        - [Radford et al., 2021](https://arxiv.org/abs/2103.00020)
    """

    def __init__(self, preset="clip_vit_base_patch32", batch_size=32):
        self._backbone = load_network(keras_hub.models.CLIPBackbone, preset)
        with hub_errors(preset):
            self._tokenizer = keras_hub.models.CLIPTokenizer.from_preset(
                str(preset)
            )
        image_size = self._backbone.vision_encoder.image_shape[0]
        digest = weights_digest(self._backbone)
        super().__init__(
            f"clip-{digest}-cubic-crop-{image_size}",
            self._backbone.projection_dim,
            batch_size,
            self._compute,
            self._backbone.variables,
        )
        self._compiled_text = compile_function(
            lambda rows, shared: self._backbone.get_text_embeddings(
                rows["tokens"]
            ),
            self._backbone.variables,
            False,
        )

    def _compute(self, images):
        size = self._backbone.vision_encoder.image_shape[0]
        images = resize_cubic(images, size, crop=True)
        images = normalize_images(images, _MEAN, _DEVIATION)
        return self._backbone.get_vision_embeddings(images)

    def embed_text(self, prompts):
        """Compute the embeddings of prompts, long ones truncated.

        Args:
            prompts: list of strings.

        Returns:
            A float32 array of shape `(N, size)`.
        """
        if isinstance(prompts, str) or not all(
            isinstance(prompt, str) for prompt in prompts
        ):
            raise InputError(
                "`prompts` must be a list of strings. Received: "
                f"prompts={prompts!r}"
            )
        if not len(prompts):
            return np.zeros((0, self.size), "float32")
        rows = {"tokens": self._tokenize(list(prompts))}
        return run_batches(
            self._compiled_text, rows, {}, self.batch_size, fixed=True
        )

    def _tokenize(self, prompts):
        tokenizer = self._tokenizer
        length = self._backbone.text_encoder.max_sequence_length
        # The embedding is read at the first end token; the rest is ignored.
        tokens = np.full(
            (len(prompts), length), tokenizer.end_token_id, "int32"
        )
        tokens[:, 0] = tokenizer.start_token_id
        for row, prompt in zip(tokens, prompts, strict=True):
            words = np.asarray(tokenizer(prompt))[: length - 2]
            row[1 : 1 + len(words)] = words
        return tokens


def clip_score(image_features, text_features):
    """Compute the CLIP score, 100 times the mean cosine of image and prompt.

    Negative cosines count as 0.

    Args:
        image_features: float array of shape `(N, F)`, by `CLIPFeatures`.
        text_features: float array of the same shape, one prompt per image.

    Returns:
        A float in [0, 100].

    References:
        - [Hessel et al., 2021](https://arxiv.org/abs/2104.08718), whose scale
          is 2.5 instead of 100, and whose prompts begin with "A photo depicts"
    """
    image_features = np.asarray(image_features, "float64")
    text_features = np.asarray(text_features, "float64")
    if image_features.shape != text_features.shape or not len(image_features):
        raise InputError(
            "There must be one prompt per image, and at least one. Received: "
            f"features of shapes {image_features.shape} and "
            f"{text_features.shape}"
        )
    norms = np.linalg.norm(image_features, axis=1) * np.linalg.norm(
        text_features, axis=1
    )
    cosines = (image_features * text_features).sum(1) / norms
    return float(100.0 * np.maximum(cosines, 0.0).mean())
