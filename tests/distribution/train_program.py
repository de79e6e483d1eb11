"""Trains a tiny network under each strategy, and writes what came of it.

    python train_program.py FOLDER NETWORK STRATEGY,... [COORDINATOR COUNT ID]

Run by the tests: in one process or several, with `XLA_FLAGS` for the number of
virtual devices.
"""

import contextlib
import pathlib
import sys

import grain
import keras
import numpy as np

import keras_simple_diffusion as ksd
from keras_simple_diffusion import distribution
from keras_simple_diffusion.backend import replicas

STEPS = 20
BATCH_SIZE = 16
LABELS = [0, 1, 2, 1, 0, 2, 2, 1, 0, 0]
SHARED = {
    "image_shape": (8, 8, 3),
    "channels": (16, 32),
    "dropout": 0.1,
    "num_classes": 3,
    "embedding_dim": 32,
}
NETWORKS = {
    "tiny": (
        ksd.models.UViTBackbone,
        {
            **SHARED,
            "channels": (16,),
            "blocks": (1,),
            "rematerialize": ("transformer",),
        },
    ),
    "accumulated": (
        ksd.models.UViTBackbone,
        {**SHARED, "channels": (16,), "blocks": (1,)},
    ),
    "uvit": (ksd.models.UViTBackbone, {"blocks": (1, 2), **SHARED}),
    "unet": (ksd.models.UNetBackbone, {"blocks": (1, 1), **SHARED}),
    "transformer": (
        ksd.models.PixelTransformerBackbone,
        {
            "image_shape": (8, 8, 3),
            "patch_size": 2,
            "width": 32,
            "depth": 4,
            "num_heads": 4,
            "bottleneck_dim": 8,
            "num_class_tokens": 4,
            "class_token_block": 2,
            "dropout": 0.1,
            "num_classes": 3,
        },
    ),
}


def make_batches():
    """Batches that hold the same images whoever trains on them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, BATCH_SIZE * 4, "int32")
    # Red, green or blue ones.
    images = rng.integers(0, 128, (BATCH_SIZE * 4, 8, 8, 3), "uint8")
    images += 127 * np.eye(3, dtype="uint8")[labels][:, None, None]
    return [{"images": images[i::4], "labels": labels[i::4]} for i in range(4)]


def share(batches):
    """The parts of batches that this process provides."""
    index, count = distribution.data_shard()
    size = BATCH_SIZE // count
    rows = slice(index * size, (index + 1) * size)
    return [{k: value[rows] for k, value in b.items()} for b in batches]


def endless(batches):
    """A dataset that starts anew whenever it is read, as a generator cannot."""
    # Not in the reading thread, which knows of no distribution.
    shares = grain.MapDataset.source(share(batches)).repeat()
    return shares.to_iter_dataset(grain.ReadOptions(num_threads=1))


def on_one_device(variables):
    """Share of the numbers that are on the first device of this process."""
    total = sum(np.prod(v.shape) for v in variables)
    held = sum(v.value.addressable_shards[0].data.size for v in variables)
    return held / total


def in_this_process(variables):
    """Share of the bytes of variables that this process holds, on PyTorch."""
    held = replicas.held([variable.value for variable in variables])
    total = sum(4 * np.prod(variable.shape) for variable in variables)
    return sum(part.untyped_storage().nbytes() for part in held) / total


def train(network, folder, steps=STEPS):
    """Train, evaluate, sample and save; return everything as arrays."""
    keras.utils.set_random_seed(1)
    kind, arguments = NETWORKS[network]
    model = ksd.models.DiffusionModel(
        kind(**arguments), label_dropout=0.2, stratified=True
    )
    optimizer = keras.optimizers.Adam(
        3e-3,
        epsilon=1e-4,
        global_clipnorm=0.5,
        gradient_accumulation_steps=2 if network == "accumulated" else None,
    )
    model.compile(
        optimizer,
        ema_decay=[0.9, ksd.optimizers.PowerProfile(0.1)],
        watch=True,
        noise_level_bins=4,
    )
    distribution.check_batch_size(BATCH_SIZE)
    start = [distribution.to_numpy(v) for v in model.trainable_variables]
    batches = make_batches()
    history = model.fit(
        endless(batches),
        steps_per_epoch=1,
        epochs=steps,
        shuffle=False,
        verbose=0,
    )
    results = {"losses": np.array(history.history["loss"])}
    held_out = share(batches)
    results["evaluated"] = np.array(
        model.evaluate(
            {k: np.concatenate([b[k] for b in held_out]) for k in held_out[0]},
            batch_size=len(held_out[0]["labels"]),
            verbose=0,
        )
    )
    results["images"] = model.generate(
        labels=LABELS, num_steps=4, guidance_scale=2.0, seed=5, batch_size=7
    )
    state = model.trainable_variables + model.optimizer.variables
    if keras.config.backend() == "jax":
        results["share"] = np.array(on_one_device(state))
    if keras.config.backend() == "torch":
        floats = [v for v in state if v.dtype == "float32"]
        results["share"] = np.array(in_this_process(floats))
    for i, variable in enumerate(state):
        results[f"state_{i:03}"] = distribution.to_numpy(variable)
    results["moved"] = np.array(
        [
            np.abs(results[f"state_{i:03}"] - value).max()
            for i, value in enumerate(start)
        ]
    )
    model.save_to_preset(folder / "preset")
    return results


def main():
    folder, network, strategies, *processes = sys.argv[1:]
    if processes:
        coordinator, count, index = processes
        distribution.initialize(coordinator, int(count), int(index))
    for strategy in strategies.split(","):
        own = pathlib.Path(folder) / strategy
        if strategy == "none":
            context = contextlib.nullcontext()
        else:
            context = distribution.distribute(strategy, NETWORKS[network][0])
        with context:
            results = train(network, own)
        if distribution.is_main_process():
            np.savez(own / "results.npz", **results)


if __name__ == "__main__":
    main()
