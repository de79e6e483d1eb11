"""
Title: Presets, finetuning at another resolution, and sharing
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Save, load, finetune and upload a model.
Accelerator: None
"""

"""
A preset is a folder that contains a complete model: network, weights, noise
schedule, loss, class names and the defaults of sampling. The classes of this
library are `keras_hub` backbones and tasks, so its presets are `keras_hub`
presets and can be uploaded to Kaggle and Hugging Face.

This guide trains a small model on scikit-learn's digits at 16 pixels, saves and
loads it, finetunes it at 32 pixels, and explains how to share it.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import json
import pathlib

import keras
import keras_hub
import numpy as np
from matplotlib import pyplot as plt

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
EPOCHS, TUNING_EPOCHS = (1, 1) if FAST else (60, 25)
CHANNELS, BLOCKS = ((32,), (1,)) if FAST else ((32, 96), (1, 3))
NUM_IMAGES = 64 if FAST else 1792  # Whole batches of 64, of 1,797 images.
DRAW = {"labels": range(10), "num_steps": 2 if FAST else 64, "seed": 0}

keras.utils.set_random_seed(0)

"""
## Built-in configurations

The library contains presets for the networks of both papers and for small
networks of its own, with schedule, loss and training recipe. `emoji`,
`photos_64`, `photos_128`, and the teacher or student of the first two, have
weights; the others must be trained first.
"""

print(", ".join(ksd.models.builtin_presets()))

"""
For presets without weights, pass `load_weights=False` to `from_preset`. Further
arguments override those of the preset. Here the U-ViT for digits is made
smaller, and the model takes everything else from the preset.
"""

backbone = ksd.models.UViTBackbone.from_preset(
    "uvit_digits_16",
    load_weights=False,
    channels=CHANNELS,
    blocks=BLOCKS,
    embedding_dim=CHANNELS[-1],
)
model = ksd.models.DiffusionModel.from_preset(
    "uvit_digits_16",
    load_weights=False,
    backbone=backbone,
    class_names="zero one two three four five six seven eight nine".split(),
)
print(f"{backbone.count_params():,} parameters, {model.schedule.get_config()}")

images, labels = ksd.data.load_digits(16)
digits = {"images": images[:NUM_IMAGES], "labels": labels[:NUM_IMAGES]}
model.compile(keras.optimizers.Adam(1e-3), ema_decay=0.99)
model.fit(digits, batch_size=64, epochs=EPOCHS, verbose=2)

"""
## What a preset holds

`save_to_preset` writes the averaged weights, which `generate` also uses. It
does not write the raw weights and the state of the optimizer. To interrupt and
resume a training exactly, use the checkpoints of a run:
`keras-simple-diffusion train --resume`.
"""

model.save_to_preset("digits")
for path in sorted(pathlib.Path("digits").iterdir()):
    print(f"{path.stat().st_size:>9,} bytes  {path.name}")

"""
- `config.json`: the network's class and arguments,
- `model.weights.h5`: its weights, in several files above 10 GB,
- `task.json`: everything else, see below,
- `metadata.json`: versions, number of parameters, date.

Built-in presets and those of command-line runs can also contain a `recipe.json`
for `train --preset`: optimizer, batch size, steps.
"""

config = json.loads(pathlib.Path("digits/task.json").read_text())["config"]
for name in ("schedule", "loss", "sampler"):
    print(f"{name}: {config[name]['class_name']} {config[name]['config']}")
for name in ("class_names", "num_steps", "guidance_scale", "label_dropout"):
    print(f"{name}: {config[name]}")

"""
## Load it

`from_preset` takes the folder. An image depends only on the weights, the seed
and its number, so the loaded model generates the same images. On another
backend they may differ by a grey level because of rounding.
"""

loaded = ksd.models.DiffusionModel.from_preset("digits")
small_images = model.generate(**DRAW)
difference = np.abs(small_images.astype(int) - loaded.generate(**DRAW)).max()
print(f"largest difference: {difference} of 255 grey levels")

"""
Any argument of the class can be overridden, such as the defaults of sampling.
A `Preset` knows its class, `DiffusionModel` or `TextToImage`. It also opens the
folder of a command-line run.
"""

quick = ksd.models.Preset.open("digits").load(
    sampler=ksd.samplers.DPMSolverSampler(),
    num_steps=16,
    guidance_scale=1.0,
)
print(type(quick).__name__, quick.class_names[:3], quick.num_steps)

"""
Importing this library registers its classes, so `keras_hub`'s base classes find
them too.
"""

network = keras_hub.models.Backbone.from_preset("digits")
print(type(network).__name__, network.image_shape)

"""
## Another resolution

A network for larger images can start from the weights of a smaller one. The
paper's U-ViTs for ImageNet at 128, 256 and 512 pixels have the same inner
layers, because a wavelet transform at the input reduces all images to 128
pixels. Here, with a wavelet transform by 2, the network for 32 pixels has the
same inner layers as the network for 16 pixels.

`transfer_weights` copies every weight whose path and shape agree, lists the
others in a warning and returns their paths. Here only the first and the last
convolution have different channels.
"""

large_backbone = ksd.models.UViTBackbone.from_preset(
    "digits",
    load_weights=False,
    image_shape=(32, 32, 1),
    downsampling="dwt",
    downsampling_factor=2,
)
fresh = ksd.models.transfer_weights("digits", large_backbone)
print("Not copied:", ", ".join(fresh))

"""
The schedule must be adapted as well. An average of 2 x 2 pixels has half the
noise, so at the same log-SNR an image of 32 pixels is less noisy than one of 16
pixels (eq. 4 of the [paper](https://arxiv.org/abs/2301.11093)). `noise_size=16`
shifts the schedule (eq. 5), so that the inner layers see the noise they were
trained with.

On the command line, `train --preset ... --initialize-from digits` does the
same.
"""

large = ksd.models.DiffusionModel.from_preset(
    "digits",
    load_weights=False,
    backbone=large_backbone,
    schedule=ksd.schedules.ShiftedCosineSchedule(32, noise_size=16),
)
large.compile(keras.optimizers.Adam(1e-3), ema_decay=0.99)
before = large.generate(**DRAW)
images, labels = ksd.data.load_digits(32)
digits = {"images": images[:NUM_IMAGES], "labels": labels[:NUM_IMAGES]}
large.fit(digits, batch_size=64, epochs=TUNING_EPOCHS, verbose=2)
after = large.generate(**DRAW)
large.save_to_preset("digits_32")

"""
## Share it

A model card describes the purpose and the data of a model.
`evaluate --output report.json` writes a section for it, `report.md`, with the
metrics and everything needed to reproduce them, and the sheet that it shows,
`report.nearest.png`: samples above the nearest training images. The digits are
licensed under CC BY 4.0, which requires naming their source.
"""

card = f"""---
library_name: keras-hub
license: cc-by-4.0
tags: [diffusion]
---
# Handwritten digits, 32 pixels

A class-conditional U-ViT of {large_backbone.count_params():,} parameters, for
teaching. Trained with guides/presets_and_sharing.py on scikit-learn's digits
(UCI "Optical Recognition of Handwritten Digits", CC BY 4.0) for {EPOCHS} epochs
at 16 pixels and {TUNING_EPOCHS} at 32.

    import keras_simple_diffusion as ksd
    model = ksd.models.Preset.open("hf://USER/digits_32").load()
    images = model.generate(labels=["three", "eight"], seed=0)
"""
pathlib.Path("digits_32/README.md").write_text(card)

"""
`keras_hub` uploads presets. It needs `pip install kagglehub` or
`huggingface_hub`, and you must be logged in to the service:

```python
folder = "digits_32"
keras_hub.upload_preset("kaggle://USER/simple_diffusion/keras/digits", folder)
keras_hub.upload_preset("hf://USER/digits_32", folder)
```

If a Hugging Face repository has no model card, `keras_hub` (0.32) writes its
own over the folder's `README.md`, and deletes it after the upload. To avoid
this, upload yours first:

```python
import huggingface_hub

huggingface_hub.create_repo("USER/digits_32", exist_ok=True)
huggingface_hub.upload_file(
    repo_id="USER/digits_32",
    path_or_fileobj="digits_32/README.md",
    path_in_repo="README.md",
)
```

Other users can then load the model by its handle, in Python and on the command
line:

```
keras-simple-diffusion generate --model hf://USER/digits_32 --labels three,eight
```

## The image
"""

figure, axes = plt.subplots(3, 10, figsize=(8, 2.9), layout="constrained")
rows = {
    "16 px": small_images,
    "32 px,\ntransferred": before,
    "32 px,\nfinetuned": after,
}
for row, (name, drawn) in zip(axes, rows.items(), strict=True):
    for cell, image in zip(row, drawn, strict=True):
        cell.imshow(image, cmap="gray", vmin=0, vmax=255)
        cell.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig("presets_and_sharing.png", dpi=100)
print(
    "presets_and_sharing.png: digits of the model at 16 px, of the transferred "
    "weights at 32 px, and after finetuning at 32 px."
)
