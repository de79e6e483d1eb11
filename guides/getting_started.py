"""
Title: Getting started with a folder of images
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: From a folder of images to a model that draws new ones.
Accelerator: None
"""

"""
This guide trains a diffusion model on a folder of images and draws new ones
with it: first in Python, and at each step with the command line that does the
same. Its images are scikit-learn's handwritten digits, 16 pixels wide and
grey, so that a CPU learns to draw them in minutes. Nothing below depends on
that: take a folder of your own, and set size, channels and network to suit it.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
STEPS, BATCH_SIZE = (4, 16) if FAST else (2000, 64)
CHANNELS, BLOCKS = ((16,), (1,)) if FAST else ((32, 96), (1, 3))
SAMPLING_STEPS, PER_CLASS = (4, 1) if FAST else (32, 10)

"""
## A folder of images

Folders inside the folder are classes. If the outermost ones are called `train`
and `test`, they are splits, and the classes lie inside:

```
images/train/0/0001.png
images/train/1/0000.png
images/test/0/0009.png
```

A `.zip` of such a folder does too, and so do images of any sizes and shapes,
in colour or grey, as JPEG, PNG, WebP and others. Without folders inside it a
folder has no classes, and the model is unconditional.
"""

folder = pathlib.Path("images")
for split in ("train", "test"):
    images, labels = ksd.data.load_digits(image_size=16, split=split)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / split / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)

"""
## Look at it

Before anything is trained, `inspect-data` decodes every image. It tells
sizes, classes and what cannot be read, and which image size, noise schedule and
preset suit the images:

```
keras-simple-diffusion inspect-data --data images --output sheet.png
```

`sheet.png` shows images as training gets them. Here the same command is run
from Python.
"""

command = "inspect-data --data images --output sheet.png".split()
subprocess.run(
    [sys.executable, "-m", "keras_simple_diffusion", *command], check=True
)

"""
`open_data` opens the folder for training. No image is read yet: each is
decoded, cut to the target's shape and resized when it is asked for. (`digits`
and `tfds:NAME` open scikit-learn's digits and TensorFlow Datasets the same
way.)
"""

source = ksd.data.open_data("images", image_size=16, num_channels=1)
held_out = ksd.data.open_data("images", 16, split="test", num_channels=1)
print(f"{len(source)} images of {source.image_shape} to train on")
print(f"classes: {', '.join(source.class_names)}")

"""
`training_batches` makes endless, shuffled batches of it. A batch is a function
of the seed and its number alone, so a second run sees the same ones. Digits are
not mirrored; for photographs add `flip=True`.
"""

batches = ksd.data.training_batches(source, BATCH_SIZE, seed=0)

"""
## Network and model

A U-ViT is a transformer at the lowest resolution, here 8 x 8, below a few
convolutional blocks at the higher ones ([simple
diffusion](https://arxiv.org/abs/2301.11093)). `UNetBackbone`, which has
convolutional blocks at all of them and attention at the lowest, takes these
arguments too. `num_classes` makes the network class-conditional.
"""

backbone = ksd.models.UViTBackbone(
    image_shape=source.image_shape,
    channels=CHANNELS,
    blocks=BLOCKS,
    num_classes=len(source.class_names),
    embedding_dim=CHANNELS[-1],
    dropout=0.1,
    dropout_max_size=8,
)
print(f"{backbone.count_params():,} parameters")

"""
The model joins the network with what else there is to know: the names of the
classes, and how to draw from it by default. Schedule and loss are left at their
defaults, for images of up to 64 pixels the cosine schedule and the squared
error in v.

`make_optimizer` is Adam with the paper's settings. Its learning rate, 1e-4, is
for a network of two billion parameters; a small one learns faster.
"""

model = ksd.models.DiffusionModel(
    backbone,
    class_names=source.class_names,
    num_steps=SAMPLING_STEPS,
    guidance_scale=1.5,
)
model.compile(
    ksd.optimizers.make_optimizer(learning_rate=1e-3, warmup_steps=50)
)

"""
## Train

`fit` is Keras's own, with callbacks and all. The batches never end, so it is
told how many make an epoch, and they are shuffled already. Each step draws a
noise level for each image, adds as much noise, and measures the error of what
the network predicts.
"""

model.fit(
    batches, steps_per_epoch=STEPS // 4, epochs=4, shuffle=False, verbose=2
)

"""
`evaluate` measures the same error on images that were not trained on, with
the same noise in every call, so models can be compared by it. It uses the
weights as they are; `generate` and `save_to_preset` use their average over
about the last tenth of the training.
"""

examples = [held_out[index] for index in range(len(held_out))]
test_data = {
    "images": np.stack([example["images"] for example in examples]),
    "labels": np.stack([example["labels"] for example in examples]),
}
with model.averaged_weights():
    loss = model.evaluate(test_data, batch_size=120, verbose=0)
print(f"held-out loss of the averaged weights: {loss:.4f}")

"""
On the command line network and recipe come from a preset (`presets` lists
them). `uvit_digits_16` is a network like this one with twice the parameters.
The run's folder holds checkpoints, loss curves and samples, and an interrupted
run can be resumed:

```
keras-simple-diffusion train --data images --preset uvit_digits_16 \
  --minutes 5 --output runs/images
keras-simple-diffusion train --resume runs/images
```

## Draw

Labels are classes, by number or name. Guidance moves images towards what is
typical of their class; 1 is none. Image `i` depends on the seed and on `i`
alone, not on the images it is drawn with.

```
keras-simple-diffusion generate --model runs/images --labels 3,3,8,8 \
  --steps 32 --guidance 1.5 --seed 0 --output images.png
```
"""

labels = np.repeat(np.arange(10), PER_CLASS)
images = model.generate(labels=labels, seed=0)
print(f"drawn: {images.shape}, {images.dtype}")

"""
## Keep it

A preset is a folder with the network, its averaged weights, the schedule, the
loss, the names of the classes and the defaults of sampling: nothing has to be
remembered to draw from it. `generate --model digits_preset` draws from it on
the command line, as from a run.
"""

model.save_to_preset("digits_preset")
loaded = ksd.models.DiffusionModel.from_preset("digits_preset")
again = loaded.generate(labels=[source.class_names[i] for i in labels], seed=0)
difference = np.abs(again.astype("int32") - images).max()
print(f"largest difference of the loaded model's images: {difference}")

"""
## The sheet

`getting_started.png` shows the drawn digits, one class a row, every one as it
came.
"""

cells = np.pad(images[..., 0], ((0, 0), (2, 2), (2, 2)))
cells = cells.reshape(10, PER_CLASS, 20, 20).transpose(0, 2, 1, 3)
sheet = Image.fromarray(cells.reshape(10 * 20, PER_CLASS * 20))
sheet.resize((3 * sheet.width, 3 * sheet.height)).save("getting_started.png")
