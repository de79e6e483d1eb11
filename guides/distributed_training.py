"""
Title: Training on TPU and GPU clusters
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Split batch and weights over devices, in one process or many.
Accelerator: None
"""

"""
The networks of the papers need more memory and more arithmetic than one device
has: the U-ViT for ImageNet has 2.5 billion parameters, which with gradient,
moments and average are 49 GB, and is trained with 2,048 images a step. This
guide splits a small one over eight devices in three ways, shows that each
learns what one device learns, and then says how to start it on a cluster.

## Eight devices on a CPU

JAX divides a CPU into any number of virtual devices. They are no faster, but
they split and communicate as real ones do. The flag has to be set before JAX is
imported, so before Keras is. On four or eight real ones run this guide with
`JAX_PLATFORMS=cuda` or `tpu`, where the flag does nothing.

TensorFlow has virtual devices too, and copies a model to each of them. On
PyTorch `keras.distribution` does nothing yet (Keras 3.15), so there everything
below runs on one device.
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
BATCH_SIZE = 64  # Of all devices together.

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

A model is made, trained and sampled within the context of
`ksd.distribution.distribute(strategy)`; nothing else changes.

- `"data"`: each device has the whole network and an eighth of the batch.
- `"sharded"`: weights, moments and averages are split as well, and brought
  together where they are used, layer by layer. It costs communication and no
  other arithmetic ([ZeRO](https://arxiv.org/abs/1910.02054)).
- `"tensor:4"`: four devices share the work on each image
  ([Megatron](https://arxiv.org/abs/1909.08053)), and the batch is split over
  the two groups. It is for batches smaller than the number of devices.

The batch size is that of all devices together, and a multiple of their number
(with `tensor:4`, of the groups). `training_batches` makes batch `s` from the
seed and `s` alone, whatever reads it; `data_shard` says which part of each
batch this process has to read: all of it, as long as there is one process.
"""

images, labels = ksd.data.load_digits(16)
source = ksd.data.ArraySource(images, labels)


def train():
    """Train a new model; returns it and the loss of each step."""
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
    # Epochs of one step, whose loss is that of this step alone.
    history = model.fit(
        batches, steps_per_epoch=1, epochs=STEPS, shuffle=False, verbose=0
    )
    return model, history.history["loss"]


def layout(model):
    """Which device holds what of a kernel, and what share each holds."""
    (kernel,) = [
        weight.value
        for weight in model.backbone.weights
        if weight.path.endswith("transformer_0/hidden/kernel")
    ]
    devices, share = np.zeros(kernel.shape), 1.0
    for shard in getattr(kernel, "addressable_shards", ()):  # On JAX.
        share = shard.data.size / devices.size
        if shard.replica_id == 0:  # Of those that hold the same.
            devices[shard.index] = shard.device.id
    return devices, share


"""
First on one device, then on all. Noise, times and dropped labels are drawn for
the whole batch, as on one device, and gradients are added up before they are
clipped. So what is left is the order of sums, which rounds differently in the
last digits, and what the training makes of these.
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
## Checkpoints know no devices

A preset is whole whatever wrote it, and so is a checkpoint. What eight devices
have written here is loaded on one, and draws what they draw.
"""

loaded = ksd.models.load_model("digits")
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

On one machine, with any number of GPUs or TPU cores, that is all: one process
uses all devices it finds. Several machines run the same command each. On a TPU
pod

```
gcloud compute tpus tpu-vm ssh my-pod --worker=all --command \\
  "KERAS_BACKEND=jax keras-simple-diffusion train ... --distribution sharded"
```

and under SLURM, one process a GPU,

```
srun --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 \\
  keras-simple-diffusion train ... --distribution sharded
```

JAX finds out by itself how many processes there are and which one this is.
Anywhere else each is told; the coordinator is process 0, at an address and a
free port that all can reach:

```
keras-simple-diffusion train ... --coordinator 10.0.0.1:1234 \\
  --num-processes 2 --process-id 0   # on the first machine
keras-simple-diffusion train ... --coordinator 10.0.0.1:1234 \\
  --num-processes 2 --process-id 1   # on the second
```

In a program of your own it is `ksd.distribution.initialize("10.0.0.1:1234", 2,
0)`, before anything touches a device.

- `--batch-size` is that of all processes together. Of a batch of 2,048 each of
  16 processes reads and decodes 128 images, as `data_shard` says above, and
  `--workers 8` does so in 8 processes of its own.
- If an even share of the batch is too much for a device, `--accumulate 4`
  computes it in 4 parts, and `--rematerialize transformer` keeps less of each
  block in memory and computes it again.
- Process 0 alone writes files and prints. All must see the same folder.
- After a failure, or SIGTERM before preemption, `train --resume runs/256` goes
  on, on as many devices as there are then; the batch must be a multiple of
  these too. The run knows its other options, but for those of the coordinator.

The library's own tests run all strategies in 2 processes of 2 devices. What was
measured, and that real TPUs and GPUs are not among it, is in
`docs/distribution.md`.

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
    "distributed_training.png: the losses of all trainings, which lie on each "
    "other; the parts of one kernel, coloured by the device that holds them; "
    f"digits of the model trained with {strategy}."
)
