"""EfficientNet-Lite0 as a Keras model, with weights from a `.npz` file.

    python benchmarks/efficientnet_lite0.py --weights W.npz \
        --images imagenette_64.zip

prints the share of Imagenette's images that it names rightly, among the
1,000 classes of ImageNet.
"""

import argparse

import keras
import numpy as np
from keras import layers

SIZE = 224
# Blocks with stride 2; all others have 1.
_STRIDED = (1, 3, 5, 11)
_NUM_BLOCKS = 16
# Of ImageNet, in the alphabetical order of Imagenette's names: cassette player,
# chain saw, church, springer, horn, truck, pump, golf ball, parachute, tench.
_IMAGENETTE = (482, 491, 497, 217, 566, 569, 571, 574, 701, 0)


def efficientnet_lite0(path):
    """The network, and the one that ends with its features.

    Args:
        path: string, the `.npz` file.

    Returns:
        A tuple of two `keras.Model`s of images of shape
        `(B, 224, 224, 3)`, RGB in [0, 255]: to `(B, 1000)`, logits, and to
        `(B, 1280)`.
    """
    weights = np.load(path)

    def convolve(x, kernel, norm, stride=1, activation="relu6"):
        values = weights[f"{kernel}.weight"].astype("float32")
        is_depthwise = values.shape[2] == 1
        kind = layers.DepthwiseConv2D if is_depthwise else layers.Conv2D
        args = () if is_depthwise else (values.shape[3],)
        if is_depthwise:
            values = values.transpose(0, 1, 3, 2)
        size = values.shape[0]
        conv = kind(*args, size, stride, padding="same", use_bias=False)
        x = conv(x)
        conv.set_weights([values])
        normalize = layers.BatchNormalization(epsilon=1e-3)
        x = normalize(x)
        names = ("weight", "bias", "running_mean", "running_var")
        normalize.set_weights([weights[f"{norm}.{n}"] for n in names])
        return layers.Activation(activation)(x)

    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1.0 / 128.0, -127.0 / 128.0)(inputs)
    x = convolve(x, "_conv_stem", "_bn0", 2)
    for i in range(_NUM_BLOCKS):
        name = f"_blocks.{i}."
        start = x
        if f"{name}_expand_conv.weight" in weights:
            x = convolve(x, f"{name}_expand_conv", f"{name}_bn0")
        stride = 2 if i in _STRIDED else 1
        x = convolve(x, f"{name}_depthwise_conv", f"{name}_bn1", stride)
        x = convolve(
            x, f"{name}_project_conv", f"{name}_bn2", activation="linear"
        )
        if x.shape == start.shape:
            x = x + start
    x = convolve(x, "_conv_head", "_bn1")
    features = layers.GlobalAveragePooling2D()(x)
    dense = layers.Dense(1000)
    logits = dense(features)
    dense.set_weights(
        [weights["_fc.weight"].astype("float32").T, weights["_fc.bias"]]
    )
    return keras.Model(inputs, logits), keras.Model(inputs, features)


def resize(images):
    """`uint8` images as float32 ones of the network's size."""
    return keras.ops.image.resize(
        np.asarray(images, "float32"),
        (SIZE, SIZE),
        "bicubic",
        data_format="channels_last",
    )


def main():
    from keras_simple_diffusion.data.loading import load_images

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--every", type=int, default=20)
    args = parser.parse_args()
    network, _ = efficientnet_lite0(args.weights)
    images = load_images(args.images, (64, 64), "val")
    labels = np.array(_IMAGENETTE)[images.labels][:: args.every]
    images = resize(images.images[:: args.every])
    found = network.predict(images, batch_size=32, verbose=0).argmax(-1)
    print(f"{(found == labels).mean():.3f} of {len(labels)} images")


if __name__ == "__main__":
    main()
