"""Measure the quality of images that exported models of texts draw.

    python benchmarks/export_quality.py emoji_float32 emoji_bfloat16 \
        --data emoji --weights inception2015_fid_fp32.npz

`--data` is the folder of `hold_out.py --compositions`. The `draw.py` of every
folder draws captions of the held-out split from the same noise; `evaluate`
compares with the real images of these captions. It prints a table in Markdown:
the KID, its ratio to that of the first folder, and the difference from the
first folder's images in grey levels.
"""

import argparse
import importlib.util
import pathlib

import numpy as np

import keras_simple_diffusion as ksd


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--data", required=True, help="real images")
    parser.add_argument("--weights", help="of Inception")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    models = [load(folder) for folder in args.folders]
    size = models[0].settings["image_shape"]
    source = ksd.data.open_data(args.data, size[:2], "test")
    count = min(args.images, len(source))
    chosen = [i * len(source) // count for i in range(count)]
    captions = [source.captions()[i] for i in chosen]
    real = np.stack([source.example(i)["images"] for i in chosen])
    network = ksd.metrics.InceptionFeatures(args.weights)
    print("| | KID | ratio | root mean square | largest |")
    print("|---|---|---|---|---|")
    first = None
    for folder, model in zip(args.folders, models, strict=True):
        images = draw(model, captions, args.batch_size)
        report = ksd.evaluation.evaluate(
            images, real, metrics=["kid"], feature_weights=network
        )
        kid = report.results[0]["kid_test"]
        first = first or (kid, images.astype("float64"))
        difference = np.abs(images - first[1])
        error = np.sqrt(np.mean(difference**2))
        print(
            f"| {folder.name} | {kid:.5f} | {kid / first[0]:.3f} "
            f"| {error:.2f} | {difference.max():.0f} |",
            flush=True,
        )


def load(folder):
    """Load an exported model by its own `draw.py`."""
    spec = importlib.util.spec_from_file_location("draw", folder / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ExportedModel(folder)


def draw(model, captions, batch_size, seed=0):
    """Draw an image of each caption."""
    settings = model.settings
    rng = np.random.default_rng(seed)
    images = []
    for begin in range(0, len(captions), batch_size):
        batch = captions[begin : begin + batch_size]
        shape = settings["num_noises"], len(batch), *settings["image_shape"]
        noise = rng.normal(size=shape).astype("float32")
        images.append(model.draw(batch, noise=noise))
    return np.concatenate(images)


if __name__ == "__main__":
    main()
