"""Measure how many photographs EfficientNet-Lite0 names rightly.

    python benchmarks/efficientnet_lite0.py --weights W.npz \
        --images imagenette_64.zip

prints the share of Imagenette's held-out images that it names rightly, among
the 1,000 classes of ImageNet: a check of the weights and of the network that
`evaluate --efficientnet` uses.
"""

import argparse

import numpy as np

import keras_simple_diffusion as ksd

# Of ImageNet, in the alphabetical order of Imagenette's names: cassette player,
# chain saw, church, springer, horn, truck, pump, golf ball, parachute, tench.
_IMAGENETTE = (482, 491, 497, 217, 566, 569, 571, 574, 701, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--every", type=int, default=20)
    args = parser.parse_args()
    network = ksd.metrics.EfficientNetFeatures(args.weights)
    images = ksd.data.load_images(args.images, 64, "test")
    labels = np.array(_IMAGENETTE)[images.labels][:: args.every]
    features = network(images.images[:: args.every])
    head = np.load(args.weights)
    logits = features @ head["_fc.weight"].astype("float32").T
    found = (logits + head["_fc.bias"]).argmax(-1)
    print(f"{(found == labels).mean():.3f} of {len(labels)} images")


if __name__ == "__main__":
    main()
