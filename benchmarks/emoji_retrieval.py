"""Measure how often the nearest real emoji matches the prompt.

    python benchmarks/emoji_retrieval.py --models emoji emoji_teacher \
        --images emoji --network efficientnet_lite0_imagenet_fp16.npz \
        --output docs

`--images` is the folder of `hold_out.py --compositions`. For names of the
training split each model draws one image, as its preset says. An image counts
as right if the nearest real one, of both splits, is of a name with the same
noun: the last word before "with", "in" and the like, without skin tones
("crying cat": cat). Nearest means the smallest squared distance of pixels, or
the largest cosine of EfficientNet-Lite0's features.

Beside it: chance, the share of all real images that have the noun, and the
score of the real held-out images, each looked up among the others.

Held-out combinations of a name and its colour or skin tone are judged by word:
does the nearest real image have the noun that was asked for, the colours or the
tone, and both? `--words` of them are drawn.
"""

import argparse
import json
import pathlib
import random
import re

import keras
import numpy as np
from hold_out import TONE
from hold_out import is_composed
from hold_out import parts
from PIL import Image

import keras_simple_diffusion as ksd

_END = re.compile(r"\s(?:with|in|of|on|at|and|from|over|without|behind)\s")


def noun_of(caption):
    """The noun of a name."""
    name = _END.split(TONE.sub("", caption).strip())[0]
    words = re.findall(r"[\w’']+", name.lower())
    return words[-1] if words else caption.lower()


def read_split(folder, size):
    """Images, `uint8` of shape `(N, size, size, 3)`, and their names."""
    rows = (folder / "metadata.jsonl").read_text().splitlines()
    rows = [json.loads(row) for row in rows]
    images = []
    for row in rows:
        with Image.open(folder / row["file_name"]) as image:
            image = image.convert("RGB").resize((size, size), Image.BOX)
            images.append(np.asarray(image))
    return np.stack(images), [row["text"] for row in rows]


class Spaces:
    """Spaces in which images are compared: pixels and features."""

    def __init__(self, path):
        self.network = ksd.metrics.EfficientNetFeatures(path)

    def embed(self, images):
        """Dict of arrays of shape `(N, D)`; a larger product is nearer."""
        pixels = images.reshape(len(images), -1).astype("float32") / 255
        features = self.network(images)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return {"pixels": pixels, "features": features}


def nearest(found, real, without_self=None):
    """Index of the nearest real image, other than `without_self` if given."""
    squares = (real**2).sum(1) - 2 * found @ real.T
    if without_self is not None:
        squares[np.arange(len(found)), without_self] = np.inf
    return squares.argmin(1)


def judge_words(found, asked):
    """Shares of the nearest names that have the noun and the colours asked for.

    Args:
        found: list of strings, the names of the nearest real images.
        asked: list of strings, the names that were asked for.
    """
    noun = [noun_of(f) == noun_of(a) for f, a in zip(found, asked, strict=True)]
    colours = [
        set(parts(f)[1]) == set(parts(a)[1])
        for f, a in zip(found, asked, strict=True)
    ]
    both = np.logical_and(noun, colours)
    values = {"noun": noun, "colours": colours, "both": both}
    return {name: float(np.mean(value)) for name, value in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--names", type=int, default=200)
    parser.add_argument("--words", type=int, default=100)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    models = [ksd.models.TextToImage.from_preset(name) for name in args.models]
    size = models[0].backbone.image_shape[0]
    seen, names = read_split(args.images / "train", size)
    held_out, other_names = read_split(args.images / "test", size)
    nouns = np.array([noun_of(name) for name in names + other_names])
    spaces = Spaces(args.network)
    real = spaces.embed(np.concatenate([seen, held_out]))
    own = np.arange(len(seen), len(nouns))
    asked = random.Random(0).sample(range(len(seen)), args.names)
    # Combinations that were held out, beside their real images.
    names = np.array(names + other_names)
    composed = [i for i in own if is_composed(names[i])]
    combined = random.Random(0).sample(composed, args.words)
    report = {
        "chance": float(np.mean([(nouns == nouns[i]).mean() for i in asked])),
        "real held-out images": {
            space: float(
                np.mean(
                    nouns[nearest(vectors[own], vectors, own)] == nouns[own]
                )
            )
            for space, vectors in real.items()
        },
        "words of real images": {
            space: judge_words(
                names[nearest(vectors[combined], vectors, combined)],
                names[combined],
            )
            for space, vectors in real.items()
        },
    }
    for name, model in zip(args.models, models, strict=True):
        images = model.generate(names[asked].tolist(), seed=0)
        found = {
            space: float(
                np.mean(nouns[nearest(vectors, real[space])] == nouns[asked])
            )
            for space, vectors in spaces.embed(images).items()
        }
        images = model.generate(names[combined].tolist(), seed=0)
        words = {
            space: judge_words(
                names[nearest(vectors, real[space])], names[combined]
            )
            for space, vectors in spaces.embed(images).items()
        }
        report[pathlib.Path(name).name] = {
            "steps": model.num_steps,
            "guidance": model.guidance_scale,
            "names": found,
            "words": words,
        }
    report["names"] = args.names
    report["words"] = args.words
    report["keras"] = keras.__version__
    report["backend"] = keras.config.backend()
    print(json.dumps(report, indent=2))
    path = args.output / "emoji_retrieval.json"
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
