"""Compare the speed of the data pipeline with that of training.

    KERAS_BACKEND=jax python benchmarks/data_pipeline.py --data images.zip

The pipeline alone (read, decode, crop, resize, flip, stack) and training steps
on images in memory are measured in turn in one process, and their medians
compared. Then the model is trained from the pipeline, and the share of time
spent waiting for images is printed. Finally the memory of this process is
measured while 20,000 images pass through the pipeline.
"""

import argparse
import json
import os
import platform
import time

import keras
import numpy as np

import keras_simple_diffusion as ksd

_AHEAD = 4  # More batches than the pipeline holds ready.


def build_model(preset, source, batch_size):
    backbone = ksd.models.UViTBackbone.from_preset(
        preset,
        load_weights=False,
        image_shape=source.image_shape,
        num_classes=source.class_names and len(source.class_names),
    )
    model = ksd.models.DiffusionModel.from_preset(
        preset, load_weights=False, backbone=backbone
    )
    batch = next(iter(ksd.data.training_batches(source, batch_size)))
    for _ in range(3):
        model.train_on_batch(batch)
    return model, batch


def seconds_of_pipeline(iterator, count):
    for _ in range(_AHEAD):
        next(iterator)
    started = time.perf_counter()
    for _ in range(count):
        next(iterator)
    return time.perf_counter() - started


def seconds_of_training(model, batch, count):
    started = time.perf_counter()
    for _ in range(count):
        float(model.train_on_batch(batch))
    return time.perf_counter() - started


class Waiting(keras.callbacks.Callback):
    """Share of the time after the first steps spent on waiting for data."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            self.started = time.perf_counter()
            self.waited = self.batches.seconds_waited

    def on_train_end(self, logs=None):
        seconds = time.perf_counter() - self.started
        self.share = (self.batches.seconds_waited - self.waited) / seconds


def resident_megabytes():
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_along(iterator, batch_size, num_images):
    batches = -(-num_images // batch_size)
    marks = {round(batches * share / 10) for share in range(1, 11)}
    memory = []
    for count in range(1, batches + 1):
        next(iterator)
        if count in marks:
            memory.append(round(resident_megabytes()))
    return memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--preset", default="uvit_small_64")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--images", type=int, default=20_000)
    args = parser.parse_args()

    def batches():
        return ksd.data.training_batches(
            source, args.batch_size, flip=True, num_workers=args.num_workers
        )

    source = ksd.data.open_data(args.data, args.image_size, crop="random")
    model, batch = build_model(args.preset, source, args.batch_size)
    iterator = iter(batches())
    delivered, consumed = [], []
    for _ in range(args.rounds):
        seconds = seconds_of_pipeline(iterator, args.batches)
        delivered.append(args.batches * args.batch_size / seconds)
        seconds = seconds_of_training(model, batch, args.steps)
        consumed.append(args.steps * args.batch_size / seconds)
    fed = batches()
    waiting = Waiting(fed)
    model.fit(
        fed, steps_per_epoch=13, shuffle=False, verbose=0, callbacks=[waiting]
    )
    memory = memory_along(iterator, args.batch_size, args.images)
    report = {
        "backend": keras.config.backend(),
        "delivered_per_second": round(np.median(delivered)),
        "consumed_per_second": round(np.median(consumed), 1),
        "ratio": round(np.median(delivered) / np.median(consumed), 1),
        "quartiles_of_ratios": np.quantile(
            np.array(delivered) / np.array(consumed), [0.25, 0.75]
        )
        .round(1)
        .tolist(),
        "waiting_share": round(waiting.share, 4),
        "resident_mb_along": memory,
        **vars(args),
        "cpus": os.cpu_count(),
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
