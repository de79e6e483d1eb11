import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.distribution.batches import run_batches
from keras_simple_diffusion.generation import arguments
from keras_simple_diffusion.generation.arguments import with_sampling_options
from keras_simple_diffusion.generation.conditions import Conditions
from keras_simple_diffusion.models import fit_data
from keras_simple_diffusion.models.backbone import check_backbone
from keras_simple_diffusion.models.diffusion_task import DiffusionTask
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.text.text_encoder import TextEncoder
from keras_simple_diffusion.utils.errors import InputError


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class TextToImage(DiffusionTask):
    """Pixel-space diffusion model of images with captions.

    It is a `DiffusionModel` whose network attends to the embeddings of a text.
    The encoder that makes them is part of the model: one of keras_hub's,
    frozen, or a small one that is trained along. Some captions are replaced by
    the empty one in training, which is the unconditional half of guidance.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone` with
            `context_dim`, such as `UViTBackbone`.
        text_encoder: a `keras_simple_diffusion.text.TextEncoder` whose
            `embedding_dim` is the backbone's `context_dim`.
        schedule: see `DiffusionModel`.
        loss: see `DiffusionModel`.
        caption_dropout: float. Share of the captions replaced by the empty
            one in training. Defaults to `0.1`.
        prediction_type: see `DiffusionModel`.
        sampler: see `DiffusionModel`.
        num_steps: see `DiffusionModel`.
        guidance_scale: float. The default guidance. Defaults to `4.0`.
        stratified: see `DiffusionModel`.
        compile: see `DiffusionModel`.
        **kwargs: base `keras_hub.models.Task` arguments.

    Example:
    ```python
    captions = ["a red apple", "a ship"]
    encoder = keras_simple_diffusion.text.TextTransformer(
        keras_simple_diffusion.text.learn_vocabulary(captions),
        embedding_dim=64,
    )
    backbone = keras_simple_diffusion.models.UViTBackbone(
        image_shape=(16, 16, 3),
        channels=(16, 32),
        blocks=(1, 2),
        context_dim=64,
    )
    model = keras_simple_diffusion.models.TextToImage(backbone, encoder)
    images = np.zeros((2, 16, 16, 3), "uint8")
    model.fit({"images": images, "captions": captions})
    images = model.generate(["a red apple", "a ship"], num_steps=16)
    ```

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), sec. 3.6
    """

    def __init__(
        self,
        backbone,
        text_encoder,
        schedule=None,
        loss=None,
        caption_dropout=0.1,
        prediction_type="v",
        sampler=None,
        num_steps=256,
        guidance_scale=4.0,
        stratified=False,
        compile=True,
        **kwargs,
    ):
        check_backbone(backbone)
        if backbone.context_dim is None or backbone.num_classes is not None:
            raise InputError(
                "`TextToImage` needs a backbone with `context_dim` and without "
                f"classes. Received: context_dim={backbone.context_dim}, "
                f"num_classes={backbone.num_classes}"
            )
        if not isinstance(text_encoder, TextEncoder):
            raise InputError(
                "`text_encoder` must be a keras_simple_diffusion.text."
                "TextEncoder, such as PretrainedTextEncoder('t5_1.1_small'). "
                f"Received: text_encoder={text_encoder!r}"
            )
        if text_encoder.embedding_dim != backbone.context_dim:
            raise InputError(
                "The embeddings of the text encoder must be as wide as the "
                "backbone's `context_dim`. Received: embedding_dim="
                f"{text_encoder.embedding_dim} and context_dim="
                f"{backbone.context_dim}"
            )
        arguments.check_dropout("caption_dropout", caption_dropout)
        arguments.check_guidance(guidance_scale, is_conditional=True)
        super().__init__(
            backbone=backbone,
            schedule=schedule,
            loss=loss,
            prediction_type=prediction_type,
            sampler=sampler,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            stratified=stratified,
            **kwargs,
        )
        self.text_encoder = text_encoder
        self.caption_dropout = caption_dropout
        if compile:
            self.compile()

    # === Data ===

    @property
    def num_values(self):
        return {"portrait": 2} if self.backbone.portrait_flag else {}

    def prepare_data(self, x):
        def tokenize(batch):
            return fit_data.tokenize_batch(
                batch, self.text_encoder, self.backbone.portrait_flag
            )

        return fit_data.convert(x, tokenize)

    def split_inputs(self, inputs):
        conditions = dict(inputs)
        images = conditions.pop("images")
        fit_data.check_shape(images, self.backbone)
        return images, conditions

    def condition(self, conditions, dropout):
        conditions = dict(conditions)
        if "token_ids" in conditions:
            mask = ops.cast(conditions.pop("text_mask"), "int32")
            context = self.text_encoder(conditions.pop("token_ids"), mask)
        else:
            mask = ops.cast(conditions["context_mask"], "int32")
            context = conditions["context"]
        context = ops.cast(context, "float32")
        if dropout is not None:
            null_context, null_mask = self.text_encoder.encode_null()
            is_dropped = dropout < self.caption_dropout
            context = ops.where(
                expand_like(is_dropped, context),
                ops.cast(null_context, "float32"),
                context,
            )
            mask = ops.where(expand_like(is_dropped, mask), null_mask, mask)
        return {**conditions, "context": context, "context_mask": mask}

    def null_conditions(self, conditions):
        context, mask = self.text_encoder.encode_null()
        context = ops.cast(context, "float32")
        given = conditions["context"], conditions["context_mask"]
        return {
            **conditions,
            "context": ops.broadcast_to(context, ops.shape(given[0])),
            "context_mask": ops.broadcast_to(mask, ops.shape(given[1])),
        }

    # === Images ===

    @with_sampling_options
    def generate(
        self, prompts, options=None, *, negative_prompts=None, portrait=False
    ):
        """Draw images of texts, with the averaged weights.

        Args:
            prompts: string, or list of strings, one per image. The empty
                string is no text at all.
            {options}
            negative_prompts: optional string, for all images, or list of
                strings, which guidance leads away from. Defaults to the empty
                text.
            portrait: bool. Whether to draw portrait images, for a backbone
                with `portrait_flag`. Defaults to `False`.

        Returns:
            A `uint8` NumPy array of shape `(N, H, W, C)`, or `(H, W, C)` for
            a single prompt; a tuple with `return_steps`.

        Example:
        >>> images = text_model.generate(
        ...     ["a red apple", "a ship"], num_steps=16, guidance_scale=4.0
        ... )
        >>> images.shape, images.dtype
        ((2, 16, 16, 1), dtype('uint8'))
        """
        conditions = self.find_conditions(
            options,
            prompts=prompts,
            negative_prompts=negative_prompts,
            portrait=portrait,
        )
        return self.draw(conditions, options)

    def conditions_for(
        self, count=None, prompts=None, negative_prompts=None, portrait=False
    ):
        """Build the conditions of images.

        Args:
            count: int. Number of images. Defaults to that of the prompts.
            prompts: see `generate`. With `count`, a single one is that of all
                images.
            negative_prompts: see `generate`.
            portrait: see `generate`.

        Returns:
            `Conditions`.
        """
        is_single = isinstance(prompts, str) and count is None
        prompts = _repeat(prompts, 1 if count is None else count)
        negative_prompts = _repeat(negative_prompts or "", len(prompts))
        if portrait and not self.backbone.portrait_flag:
            raise InputError(
                "Only a backbone with `portrait_flag` draws portrait images. "
                f"Received: portrait={portrait}"
            )
        if not prompts or len(negative_prompts) != len(prompts):
            raise InputError(
                "There must be at least one prompt, and one negative prompt "
                f"for all or for each. Received: {len(prompts)} prompts and "
                f"{len(negative_prompts)} negative prompts"
            )
        if len(prompts) != (count or len(prompts)):
            raise InputError(
                "There must be one prompt for all images or for each. "
                f"Received: {count} images and {len(prompts)} prompts"
            )
        return Conditions(
            len(prompts),
            self._embed(prompts, portrait),
            self._embed(negative_prompts, portrait),
            is_single=is_single,
            is_portrait=portrait,
        )

    def encode(self, texts, batch_size=64):
        """Embed texts as the network receives them.

        Args:
            texts: list of strings.
            batch_size: int. Number of texts embedded at once. Defaults to
                `64`.

        Returns:
            A tuple of float32 embeddings of shape `(N, L, context_dim)` and
            an int32 mask of shape `(N, L)`, zero for padding.
        """
        tokens = _tokenize(self.text_encoder, texts)
        program = EncodingProgram(self.text_encoder)
        context = self.run_program(program, tokens, {}, batch_size)
        return context, tokens["text_mask"]

    def _embed(self, texts, portrait):
        """Embed texts as the network's inputs; duplicates are embedded once."""
        numbers = {
            text: number for number, text in enumerate(sorted(set(texts)))
        }
        rows = [numbers[text] for text in texts]
        context, mask = self.encode(list(numbers))
        inputs = {"context": context[rows], "context_mask": mask[rows]}
        if self.backbone.portrait_flag:
            inputs["portrait"] = np.full(len(texts), portrait, "int32")
        return inputs

    # === Presets ===

    @property
    def own_variables(self):
        borrowed = {id(v) for v in self.text_encoder.borrowed_variables}
        return [v for v in self.variables if id(v) not in borrowed]

    def save_task_weights(self, filepath):
        keras.saving.save_weights(self.text_encoder, filepath)

    def load_task_weights(self, filepath):
        keras.saving.load_weights(self.text_encoder, filepath)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "text_encoder": serialize(self.text_encoder),
            "caption_dropout": self.caption_dropout,
        }


def make_embedder(encoder):
    """Make a function that embeds texts, compiled once.

    Args:
        encoder: a `TextEncoder`.

    Returns:
        A function of a list of texts and a batch size that returns the same
        as `TextToImage.encode`.
    """
    encoder.tokenize([""])  # This loads a pretrained encoder.
    program = EncodingProgram(encoder)
    function = compile_function(program.__call__, program.variables, False)

    def embed(texts, batch_size=64):
        tokens = _tokenize(encoder, texts)
        return run_batches(function, tokens, {}, batch_size), tokens[
            "text_mask"
        ]

    return embed


@dataclasses.dataclass(frozen=True)
class EncodingProgram:
    """Program that embeds one batch of texts.

    Args:
        encoder: a `TextEncoder`.

    Call arguments:
        rows: dict with `"token_ids"` and `"text_mask"`, int32 `(B, L)`.
        shared: empty dict.

    Returns:
        A float32 tensor of shape `(B, L, D)`.
    """

    encoder: Any

    @property
    def variables(self):
        """The variables that the program reads."""
        return self.encoder.variables

    def __call__(self, rows, shared):
        embeddings = self.encoder(rows["token_ids"], rows["text_mask"])
        return ops.cast(embeddings, "float32")


def _tokenize(encoder, texts):
    token_ids, text_mask = encoder.tokenize(texts)
    return {"token_ids": token_ids, "text_mask": text_mask}


def _repeat(texts, count):
    """Return texts as a list, a single one repeated."""
    if texts is None:
        raise InputError(
            "The model draws images of texts: pass `prompts`, such as "
            '["a red apple"].'
        )
    return [texts] * count if isinstance(texts, str) else list(texts)
