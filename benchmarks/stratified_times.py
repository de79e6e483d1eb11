"""Measure the variance of the loss of a batch with stratified times.

    KERAS_BACKEND=torch python benchmarks/stratified_times.py

A small network is trained on digits. Then the losses of batches, drawn anew
each time, are measured with independent and with stratified times, without
changing the network.
"""

import argparse
import json
import platform

import keras
import numpy as np

import keras_simple_diffusion as ksd


def batch_losses(model, images, batch_size, count, stratified, rng):
    model.stratified = stratified
    model.compile(keras.optimizers.SGD(0.0), ema_decay=None)
    losses = []
    for _ in range(count):
        batch = images[rng.choice(len(images), batch_size, replace=False)]
        model.reset_metrics()
        losses.append(float(model.train_on_batch(batch)))
    return np.array(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train-epochs", type=int, default=8)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 64])
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    images, _ = ksd.data.load_digits(image_size=16)
    backbone = ksd.models.UViTBackbone(
        (16, 16, 1), (16, 32), (1, 2), embedding_dim=32
    )
    model = ksd.models.DiffusionModel(backbone)
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(images, batch_size=64, epochs=args.train_epochs, verbose=0)
    rng = np.random.default_rng(0)
    for batch_size in args.batch_sizes:
        losses = {
            stratified: batch_losses(
                model, images, batch_size, args.batches, stratified, rng
            )
            for stratified in (False, True)
        }
        row = {
            "batch_size": batch_size,
            "mean": [round(float(x.mean()), 4) for x in losses.values()],
            "deviation": [round(float(x.std()), 4) for x in losses.values()],
            "variance_ratio": round(
                float(losses[True].var() / losses[False].var()), 3
            ),
        }
        print(json.dumps(row), flush=True)
    versions = f"Keras {keras.__version__} on {keras.config.backend()}"
    print(f"{versions}, {platform.processor() or platform.machine()}")


if __name__ == "__main__":
    main()
