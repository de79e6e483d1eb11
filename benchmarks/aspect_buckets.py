"""Measure how much of images of several shapes is kept when they are cut.

python benchmarks/aspect_buckets.py --data FOLDER [--image-size 64]

It prints the ratios of the images, rounded to hundredths, the share of each
image that is left by a cut to one square and by cuts to the nearest of several
shapes, the shapes, and the processor time that reading the shapes of all images
takes.
"""

import argparse
import time

import numpy as np

from keras_simple_diffusion.data import bucket_sizes
from keras_simple_diffusion.data import open_data
from keras_simple_diffusion.data import put_into_buckets
from keras_simple_diffusion.data.inspection import examine

COUNTS = (3, 5, 9)


def kept(sizes, images):
    """Return the share of each image that the best of some cuts keeps.

    Args:
        sizes: list of `(height, width)`.
        images: array of shape `(N, 2)`, widths and heights.
    """
    ratios = images[:, :1] / images[:, 1:]
    cuts = np.array([width / height for height, width in sizes])
    return np.minimum(ratios / cuts, cuts / ratios).max(axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--divisor", type=int, default=8)
    options = parser.parse_args()
    size = (options.image_size, options.image_size)
    source = open_data(options.data, size)
    found = [each.size for each in examine(source) if each.size]
    images = np.array(found, "float64")
    ratios = (images[:, 0] / images[:, 1]).round(2)
    known, counts = np.unique(ratios, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:2]
    print(
        f"{len(images)} images with {len(known)} ratios of width to height, "
        f"from {known[0]} to {known[-1]}; "
        + ", ".join(f"{counts[i]} of {known[i]}" for i in most)
    )
    print("shapes  kept: mean  lowest  images in each")

    def row(sizes, counts):
        shares = kept(sizes, images)
        print(
            f"{len(sizes):6}  {shares.mean():10.1%}  {shares.min():6.1%}  "
            f"{counts}"
        )

    row([size], {f"{size[0]}x{size[1]}": len(images)})
    for count in COUNTS:
        sizes = bucket_sizes(size, options.divisor, count)
        begun = time.process_time()
        buckets = put_into_buckets(source, sizes)
        seconds = time.process_time() - begun
        row(sizes, buckets.counts())
    print(
        f"Reading the shapes takes {1e6 * seconds / len(source):.0f} "
        "microseconds of a processor an image."
    )


if __name__ == "__main__":
    main()
