"""One sheet that shows every kind of editing, on a digit held out of training.

python benchmarks/editing_pictures.py --model runs/demo
"""

import argparse

import numpy as np

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.digits import load_digits
from keras_simple_diffusion.utils.sheets import draw_sheet

COLUMNS = 9


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", default="docs/editing_digits.png")
    parser.add_argument("--steps", type=int, default=32)
    args = parser.parse_args()
    model = ksd.models.DiffusionModel.from_preset(args.model)
    size = model.backbone.image_shape[0]
    images, labels = load_digits(size, split="test")
    three = images[np.flatnonzero(labels == 3)[0]]
    eight = images[np.flatnonzero(labels == 8)[0]]
    common = {"num_steps": args.steps, "seed": 0}

    def repeated(picture, count):
        return picture[None].repeat(count, axis=0)

    edited = model.edit(
        repeated(three, COLUMNS - 1),
        [8] * (COLUMNS - 1),
        strength=0.7,
        guidance_scale=2.0,
        **common,
    )
    mask = np.arange(size)[:, None].repeat(size, 1) >= size // 2
    hole = np.where(mask[..., None], 127, three).astype("uint8")
    painted = model.inpaint(
        repeated(three, COLUMNS - 2), mask, [3, 5, 8, 9, 0, 2, 1], **common
    )
    factor = size // 4
    small = three.reshape(4, factor, 4, factor, -1).mean((1, 3))
    small = small.round().astype("uint8")
    blocks = small.repeat(factor, axis=0).repeat(factor, axis=1)
    upscaled = model.upscale(
        repeated(small, COLUMNS - 2), [3] * (COLUMNS - 2), **common
    )
    way = model.interpolate(
        three,
        eight,
        COLUMNS,
        [3] * 5 + [8] * (COLUMNS - 5),
        guidance_scale=1.0,
        **common,
    )
    rows = [[three, *edited], [three, hole, *painted]]
    rows += [[three, blocks, *upscaled], way]
    sheet = draw_sheet(
        np.concatenate([np.stack(row) for row in rows]),
        COLUMNS,
        row_names=["edit", "inpaint", "upscale", "interpolate"],
    )
    sheet.save(args.output, optimize=True)
    print(f"written to {args.output}")


if __name__ == "__main__":
    main()
