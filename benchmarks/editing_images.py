"""One sheet that shows every kind of editing, on images held out of training.

    python benchmarks/editing_images.py --model runs/digits --data digits
    python benchmarks/hold_out.py --images noto_emoji_128.zip --output emoji
    keras-simple-diffusion train --data emoji --image-size 32 \
        --batch-size 32 --learning-rate 0.0005 --minutes 55 --output runs/emoji
    python benchmarks/editing_images.py --model runs/emoji --data emoji \
        --images 50,146 --steps 64 --output docs/editing_emoji.png

With classes, the first image is made one of the second's class.
"""

import argparse

import numpy as np

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.sheets import show

COLUMNS = 9


def repeated(image, count):
    return image[None].repeat(count, axis=0)


def draw_rows(model, first, second, labels, steps):
    """Four rows of images: edit, inpaint, upscale, interpolate."""
    height, width, _ = first.shape
    common = {"num_steps": steps, "seed": 0}
    strengths = np.linspace(0.3, 0.9, COLUMNS - 1)
    edited = [
        model.edit(
            first[None],
            labels and [labels[1]],
            strength=float(strength),
            guidance_scale=2.0 if labels else 1.0,
            **common,
        )[0]
        for strength in strengths
    ]
    mask = np.arange(height)[:, None].repeat(width, 1) >= height // 2
    hole = np.where(mask[..., None], 127, first).astype("uint8")
    count = COLUMNS - 2
    others = labels and [labels[0], labels[1], 5, 9, 0, 2, 1]
    painted = model.inpaint(repeated(first, count), mask, others, **common)
    factor = 4
    small = first.reshape(height // factor, factor, width // factor, factor, -1)
    small = small.mean((1, 3)).round().astype("uint8")
    blocks = small.repeat(factor, axis=0).repeat(factor, axis=1)
    upscaled = model.upscale(
        repeated(small, count), labels and [labels[0]] * count, **common
    )
    way = model.interpolate(
        first,
        second,
        COLUMNS,
        labels and [labels[0]] * 5 + [labels[1]] * (COLUMNS - 5),
        guidance_scale=1.0,
        **common,
    )
    return [
        [first, *edited],
        [first, hole, *painted],
        [first, blocks, *upscaled],
        list(way),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", default="2,12", help="two numbers")
    parser.add_argument("--output", default="docs/editing_digits.png")
    parser.add_argument("--steps", type=int, default=32)
    args = parser.parse_args()
    model = ksd.models.DiffusionModel.from_preset(args.model)
    *size, channels = model.backbone.image_shape
    source = ksd.data.open_data(args.data, tuple(size), "test", channels)
    first, second = (source[int(i)] for i in args.images.split(","))
    labels = None
    if model.backbone.num_classes is not None:
        labels = [int(first["labels"]), int(second["labels"])]
    rows = draw_rows(
        model, first["images"], second["images"], labels, args.steps
    )
    sheet = show(
        np.concatenate([np.stack(row) for row in rows]),
        COLUMNS,
        row_names=["edit", "inpaint", "upscale", "interpolate"],
    )
    sheet.save(args.output, optimize=True)
    print(f"written to {args.output}")


if __name__ == "__main__":
    main()
