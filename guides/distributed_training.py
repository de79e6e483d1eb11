"""
Title: Training on TPU and GPU clusters
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Split batch and weights over devices, in one process or many.
Accelerator: None
"""

"""
The papers' networks exceed the memory and speed of one device. The U-ViT for
ImageNet has 2.5 billion parameters, which take 49 GB with gradient, moments and
average, and is trained with 2,048 images per step. This guide splits a small
network over eight devices in three ways, shows that each gives the same result
as one device, and explains how to start training on a cluster.

## Eight devices on a CPU

JAX can divide a CPU into any number of virtual devices. They are not faster,
but they split the work and communicate like real devices. The flag must be set
before JAX, and so before Keras, is imported. On four or eight real devices, run
this guide with `JAX_PLATFORMS=cuda` or `tpu`; the flag has no effect there.

TensorFlow also supports virtual devices and copies the model to each of them.
On PyTorch `keras.distribution` has no effect in Keras 3.15, so everything below
runs on one device.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
flag = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"

import contextlib

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
STEPS, SAMPLING_STEPS = (2, 2) if FAST else (600, 32)
WIDTH, BLOCKS = (8, 1) if FAST else (96, 3)
BATCH_SIZE = 64  # Over all devices.

strategies = ["one device"]
if keras.config.backend() == "tensorflow":
    strategies += ["data"]
if keras.config.backend() == "jax":
    strategies += ["sharded"] if FAST else ["data", "tensor:4", "sharded"]

if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
if keras.config.backend() != "torch":
    print("devices:", *keras.distribution.list_devices())

"""
## The same training, split

Create, train and sample a model within the context
`ksd.distribution.distribute(strategy)`. Nothing else changes.

- `"data"`: each device holds the whole network and processes an eighth of the
  batch.
- `"sharded"`: weights, moments and averages are split as well, and gathered
  layer by layer where they are used. This adds communication but no arithmetic
  ([ZeRO](https://arxiv.org/abs/1910.02054)).
- `"tensor:4"`: four devices share the work on each image
  ([Megatron](https://arxiv.org/abs/1909.08053)), and the batch is split over
  the two groups. This is meant for batches smaller than the number of devices.

The batch size counts the images of all devices and must be a multiple of their
number (with `tensor:4`, of the number of groups). In `training_batches`, batch
`s` depends only on the seed and `s`, in every process. `data_shard` returns the
part of each batch that the current process reads; a single process reads all of
it.
"""

images, labels = ksd.data.load_digits(16)
source = ksd.data.ArraySource(images, labels)


def train():
    """Train a new model and return it with the loss of each step."""
    keras.utils.set_random_seed(0)
    backbone = ksd.models.UViTBackbone(
        (16, 16, 1),
        channels=(WIDTH,),
        blocks=(BLOCKS,),
        num_classes=10,
        embedding_dim=WIDTH,
        downsampling="conv",
        downsampling_factor=4,
    )
    model = ksd.models.DiffusionModel(
        backbone, num_steps=SAMPLING_STEPS, guidance_scale=2.0
    )
    model.compile(keras.optimizers.Adam(1e-3), ema_decay=0.99)
    index, count = ksd.distribution.data_shard()
    batches = ksd.data.training_batches(
        source, BATCH_SIZE, seed=0, process_index=index, process_count=count
    )
    # With epochs of one step, the history holds the loss of each step.
    history = model.fit(
        batches, steps_per_epoch=1, epochs=STEPS, shuffle=False, verbose=0
    )
    return model, history.history["loss"]


def layout(model):
    """Return the device that holds each part of a kernel, and its share."""
    (kernel,) = [
        weight.value
        for weight in model.backbone.weights
        if weight.path.endswith("transformer_0/hidden/kernel")
    ]
    devices, share = np.zeros(kernel.shape), 1.0
    for shard in getattr(kernel, "addressable_shards", ()):  # On JAX.
        share = shard.data.size / devices.size
        if shard.replica_id == 0:  # The first replica.
            devices[shard.index] = shard.device.id
    return devices, share


"""
Train first on one device, then on all devices. Noise, times and dropped labels
are drawn for the whole batch, as on one device, and gradients are summed before
clipping. The only difference is the order of summation, which changes the
rounding of the last digits; training amplifies these differences.
"""


def distribute(strategy):
    if strategy == "one device":
        return contextlib.nullcontext()
    return ksd.distribution.distribute(strategy, ksd.models.UViTBackbone)


losses, layouts = {}, {}
for strategy in strategies:
    with distribute(strategy):
        model, losses[strategy] = train()
        layouts[strategy] = layout(model)
        if strategy == strategies[-1]:
            images = model.generate(labels=range(10), seed=0)
            model.save_to_preset("digits")
    differences = np.abs(np.divide(losses[strategy], losses["one device"]) - 1)
    print(
        f"{strategy:>10}: loss from {losses[strategy][0]:.5f} to "
        f"{losses[strategy][-1]:.5f}, relative difference to one device at "
        f"most {differences[:20].max():.0e} in the first 20 steps and "
        f"{differences.max():.0e} in all"
    )

"""
## Checkpoints do not depend on devices

Presets and checkpoints contain whole arrays, for any number of devices. The
preset that was saved on eight devices is loaded on one device here and
generates the same images.
"""

loaded = ksd.models.Preset.open("digits").load()
difference = np.abs(
    images.astype(int) - loaded.generate(labels=range(10), seed=0)
)
print(f"largest difference: {difference.max()} of 255 grey levels")

"""
## On the command line

`--distribution` does all of the above for a run:

```
keras-simple-diffusion train --data tfds:imagenet2012 \\
  --preset uvit_imagenet_256 --dtype mixed_bfloat16 \\
  --distribution sharded --output runs/256
```

On one machine, with any number of GPUs or TPU cores, nothing else is needed:
one process uses all devices. On several machines, run the same command on each.
On a TPU pod:

```
gcloud compute tpus tpu-vm ssh my-pod --worker=all --command \\
  "KERAS_BACKEND=jax keras-simple-diffusion train ... --distribution sharded"
```

Under SLURM, with one process per GPU:

```
srun --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 \\
  keras-simple-diffusion train ... --distribution sharded
```

Here JAX determines the number of processes and the index of each process
itself. On other clusters, pass both, and the address and a free port of process
0, the coordinator:

```
keras-simple-diffusion train ... --coordinator 10.0.0.1:1234 \\
  --num-processes 2 --process-id 0   # on the first machine
keras-simple-diffusion train ... --coordinator 10.0.0.1:1234 \\
  --num-processes 2 --process-id 1   # on the second
```

In your own program, call `ksd.distribution.initialize("10.0.0.1:1234", 2, 0)`
before anything uses a device.

- `--batch-size` counts the images of all processes. With a batch size of 2,048,
  each of 16 processes reads and decodes 128 images; `--workers 8` does this in
  8 worker processes.
- If a device's share of the batch does not fit into memory, `--accumulate 4`
  computes it in 4 parts, and `--rematerialize transformer` recomputes the
  blocks instead of storing their activations.
- Only process 0 writes files and prints. All processes must have access to the
  same folder.
- After a failure, or SIGTERM before preemption, `train --resume runs/256`
  continues on any number of devices that divides the batch size. The run stores
  all options except those of the coordinator.

The library's tests run all strategies in 2 processes with 2 devices each.
`docs/distribution.md` lists what was measured; real TPUs and GPUs were not
used.

## The image
"""

figure = plt.figure(figsize=(11, 4.4), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=(3, 1))
first, *cells = upper.subplots(1, 1 + len(layouts))
for strategy, values in losses.items():
    style = {"lw": 4, "alpha": 0.4} if strategy == "one device" else {"lw": 1}
    first.plot(values, label=strategy, **style)
first.set(xlabel="step", ylabel="loss")
first.legend()
for cell, (strategy, (devices, share)) in zip(
    cells, layouts.items(), strict=True
):
    cell.imshow(devices, cmap="Set3", vmin=0, vmax=11, aspect="auto")
    cell.set(xticks=[], yticks=[])
    cell.set_title(f"{strategy}\n{share:.1%} a device")
cell = lower.subplots()
cell.imshow(np.hstack(images[..., 0]), cmap="gray")
cell.axis("off")
figure.savefig("distributed_training.png", dpi=80)
print(
    "distributed_training.png: the coinciding losses of all trainings; the "
    "parts of one kernel, coloured by the device that holds them; digits "
    f"generated by the model trained with {strategy}."
)
