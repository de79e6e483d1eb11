"""A sheet of 64 prompts for the model of emoji: seen names, and unseen ones.

    KERAS_BACKEND=tensorflow python benchmarks/emoji_sheet.py --model emoji \
        --images emoji --output docs/emoji.png

`--images` is the folder of `hold_out.py --compositions`. The upper half asks
for names of the training split, the lower half for held-out combinations of a
name and its skin tone or colour, which are marked with a star. Names are drawn
at random, and every image is the first one drawn.
"""

import argparse
import pathlib
import random

from emoji_retrieval import read_split
from hold_out import is_composed

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.sheets import show

_HALF, _COLUMNS = 32, 8


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = ksd.models.TextToImage.from_preset(args.model)
    size = model.backbone.image_shape[0]
    _, seen = read_split(args.images / "train", size)
    _, held_out = read_split(args.images / "test", size)
    chosen = random.Random(args.seed)
    names = chosen.sample(seen, _HALF)
    combined = chosen.sample(list(filter(is_composed, held_out)), _HALF)
    images = model.generate(names + combined, seed=args.seed)
    captions = names + [f"*{name}" for name in combined]
    sheet = show(images, _COLUMNS, captions, scale=2)
    sheet.quantize(256).save(args.output)


if __name__ == "__main__":
    main()
