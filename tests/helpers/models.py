"""Small networks, models and data sets that train in seconds."""

import keras
import keras_hub
import numpy as np
from keras import ops

import keras_simple_diffusion as ksd


def randomize(network, seed=0, scale=1.0):
    """Draw all weights from NumPy, and return the network.

    The weights are the same on every backend, and none is zero: initial zeros
    would hide the rest of the network.

    Args:
        network: Layer or model with weights.
        seed: Seed of the random numbers.
        scale: Standard deviation of a layer's output for inputs of unit
            variance.
    """
    rng = np.random.RandomState(seed)
    for weight in network.weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        value = scale * rng.normal(size=weight.shape) / np.sqrt(fan_in)
        if weight.name in ("scale", "gamma"):
            value = 1 + 0.1 * value
        weight.assign(value.astype("float32"))
    return network


def make_backbone(num_classes=3, cls=ksd.models.UViTBackbone, **kwargs):
    """Build one transformer block for images of 4 by 4 grey levels."""
    arguments = {
        "image_shape": (4, 4, 1),
        "channels": (16,),
        "blocks": (1,),
        "num_heads": 2,
        "embedding_dim": 16,
        "num_classes": num_classes,
    }
    return cls(**{**arguments, **kwargs})


def make_transformer(num_classes=3, **kwargs):
    """Build a pixel transformer for images of 4 by 4 grey levels."""
    arguments = {
        "image_shape": (4, 4, 1),
        "patch_size": 2,
        "width": 16,
        "depth": 2,
        "num_heads": 2,
        "bottleneck_dim": 4,
        "num_class_tokens": 2,
        "class_token_block": 1,
        "num_classes": num_classes,
    }
    return ksd.models.PixelTransformerBackbone(**{**arguments, **kwargs})


def make_model(
    num_classes=3, backbone=None, learning_rate=2e-3, ema_decay=0.9, **kwargs
):
    """Build a compiled `DiffusionModel`.

    Args:
        num_classes: Number of classes, or `None`.
        backbone: Network, or dictionary of further arguments of
            `make_backbone`.
        learning_rate: Learning rate of Adam.
        ema_decay: Decay of the average of the weights, or `None`.
        **kwargs: Further arguments of `DiffusionModel`.
    """
    if not isinstance(backbone, ksd.models.DiffusionBackbone):
        backbone = make_backbone(num_classes, **(backbone or {}))
    model = ksd.models.DiffusionModel(backbone, **kwargs)
    model.compile(keras.optimizers.Adam(learning_rate), ema_decay=ema_decay)
    return model


def make_data(count=32, num_classes=3, image_shape=(4, 4, 1), seed=0):
    """Return `uint8` images of noise, and labels in turn if there are any."""
    rng = np.random.default_rng(seed)
    data = {"images": rng.integers(0, 256, (count, *image_shape), "uint8")}
    if num_classes:
        data["labels"] = np.arange(count, dtype="int32") % num_classes
    return data


def values_of(variables):
    """Copy Keras variables into NumPy arrays."""
    return [ops.convert_to_numpy(variable).copy() for variable in variables]


def make_text_encoder(texts):
    """Make a small text encoder that knows the words of some texts.

    Args:
        texts: List of strings.
    """
    return ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(texts),
        embedding_dim=8,
        num_layers=1,
        num_heads=2,
        sequence_length=4,
    )


def write_t5(folder, shared_data):
    """Write a small T5 without training, with the real tokenizer.

    Args:
        folder: Folder of the preset.
        shared_data: Folder that holds the tokenizer.
    """
    tokenizer = keras_hub.tokenizers.T5Tokenizer(
        (shared_data / "t5_tokenizer" / "spiece.model").read_bytes()
    )
    backbone = keras_hub.models.T5Backbone(
        vocabulary_size=32128,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
    )
    tokenizer.save_to_preset(folder)
    backbone.save_to_preset(folder)
