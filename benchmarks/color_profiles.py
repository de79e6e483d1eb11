"""Measure the cost of converting images with a color profile to sRGB.

    python benchmarks/color_profiles.py --data images.zip

Images of three sizes are made of the photographs and encoded without and with
a Display P3 profile. Both are decoded in turn, in one thread; the medians and
quartiles of the ratios of each pair are printed as JSON. So is the mean
difference in gray levels from converting the whole image before it is resized.
"""

import argparse
import io
import json
import pathlib
import sys
import time

import numpy as np
from PIL import Image
from PIL import ImageCms

import keras_simple_diffusion as ksd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tests.reference.icc_profile import PRIMARIES  # noqa: E402
from tests.reference.icc_profile import make_profile  # noqa: E402

# Pixels of the sides, format, and size that it is decoded to.
CASES = [(128, "jpeg", 64), (1024, "jpeg", 256), (3072, "jpeg", 256)]
CASES += [(128, "png", 64), (1024, "png", 256), (3072, "png", 256)]


def mosaic(source, side):
    """Photographs side by side."""
    tile = source.image_shape[0]
    count = -(-side // tile)
    image = Image.new("RGB", (side, side))
    for i in range(count**2):
        pixels = source[i * 37 % len(source)]["images"]
        image.paste(
            Image.fromarray(pixels), (i % count * tile, i // count * tile)
        )
    return image


def encode(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def seconds(decoder, content):
    started = time.perf_counter()
    decoder(content)
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--repeats", type=int, default=41)
    args = parser.parse_args()
    source = ksd.data.open_data(args.data, 128)
    profile = make_profile(PRIMARIES["display_p3"], 2.2)
    for side, suffix, size in CASES:
        image, decoder = mosaic(source, side), ksd.data.Decoder(size)
        plain = encode(image, suffix)
        tagged = encode(image, suffix, icc_profile=profile)
        pairs = np.array(
            [
                (seconds(decoder, plain), seconds(decoder, tagged))
                for _ in range(args.repeats)
            ][1:]
        )
        whole = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
        before = decoder(encode(whole, "png"))["images"].astype(int)
        tagged_png = encode(image, "png", icc_profile=profile)
        apart = abs(decoder(tagged_png)["images"] - before).mean()
        ratios = np.quantile(pairs[:, 1] / pairs[:, 0], (0.25, 0.5, 0.75))
        plain_ms, tagged_ms = 1000 * np.median(pairs, axis=0)
        print(
            json.dumps(
                {
                    "image": f"{side} x {side} {suffix}",
                    "decoded_to": size,
                    "plain_ms": round(plain_ms, 2),
                    "profile_ms": round(tagged_ms, 2),
                    "levels_apart": round(apart, 3),
                    "ratio_quartiles": np.round(ratios, 2).tolist(),
                }
            )
        )


if __name__ == "__main__":
    main()
