"""
Title: Getting started with a folder of images
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: From a folder of images to a model that draws new ones.
Accelerator: None
"""

"""
This guide trains a diffusion model on a folder of images and generates new
ones. Each step is shown in Python and on the command line. The images are
scikit-learn's handwritten digits, grey and 16 pixels wide, so training takes
minutes on a CPU. To use a folder of your own, change the size, the channels and
the network.
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

A `.zip` of such a folder works as well. The images may have any sizes and
shapes, in colour or grey, as JPEG, PNG, WebP and other formats. If the folder
has no subfolders, there are no classes and the model is unconditional.
"""

folder = pathlib.Path("images")
for split in ("train", "test"):
    images, labels = ksd.data.load_digits(image_size=16, split=split)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / split / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)

"""
## Inspect the data

Before training, `inspect-data` decodes every image. It reports sizes, classes
and unreadable files, and recommends an image size, a noise schedule and a
preset:

```
keras-simple-diffusion inspect-data --data images --output sheet.png
```

`sheet.png` shows images as they are used in training. Here the same command is
run from Python.
"""

command = "inspect-data --data images --output sheet.png".split()
subprocess.run(
    [sys.executable, "-m", "keras_simple_diffusion", *command], check=True
)

"""
`open_data` opens the folder for training. It does not read the images; each
image is decoded, cropped to the target's aspect ratio and resized on access.
(`digits` and `tfds:NAME` open scikit-learn's digits and TensorFlow Datasets in
the same way.)
"""

source = ksd.data.open_data("images", image_size=16, num_channels=1)
held_out = ksd.data.open_data("images", 16, split="test", num_channels=1)
print(f"{len(source)} images of {source.image_shape} to train on")
print(f"classes: {', '.join(source.class_names)}")

"""
`training_batches` returns an endless sequence of shuffled batches. A batch
depends only on the seed and its number, so a second run sees the same batches.
Digits must not be mirrored; for photographs add `flip=True`.
"""

batches = ksd.data.training_batches(source, BATCH_SIZE, seed=0)

"""
## Network and model

A U-ViT is a transformer at the lowest resolution, here 8 x 8, below a few
convolutional blocks at the higher ones ([simple
diffusion](https://arxiv.org/abs/2301.11093)). `UNetBackbone` takes the same
arguments; it has convolutional blocks at all resolutions and attention at the
lowest ones. `num_classes` makes the network class-conditional.
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
The model combines the network with a schedule, a loss, the names of the classes
and the defaults of sampling. Schedule and loss have their default values here:
for images of up to 64 pixels the cosine schedule, and the squared error in v.

`make_optimizer` returns Adam with the paper's settings. Its learning rate,
1e-4, is meant for a network with two billion parameters; a small network can
use a higher one.
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

`fit` is Keras's own and supports callbacks. The batches are endless and already
shuffled, so pass `steps_per_epoch` and `shuffle=False`. Each step draws a
random noise level for each image, adds noise of this level, and computes the
error of the network's prediction.
"""

model.fit(
    batches, steps_per_epoch=STEPS // 4, epochs=4, shuffle=False, verbose=2
)

"""
`evaluate` computes the same error on held-out images. It uses the same noise in
every call, so its results can be compared between models. It uses the raw
weights, whereas `generate` and `save_to_preset` use the average over about the
last tenth of the training. `averaged_weights` selects the average:
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
On the command line, the network and the recipe come from a preset (`presets`
lists all presets). `uvit_digits_16` is a network like this one with twice the
parameters. The run's folder contains checkpoints, loss curves and samples, and
an interrupted run can be resumed:

```
keras-simple-diffusion train --data images --preset uvit_digits_16 \
  --minutes 5 --output runs/images
keras-simple-diffusion train --resume runs/images
```

## Generate images

Labels are classes, given by number or name. Guidance moves images towards the
typical appearance of their class; a scale of 1 means no guidance. Image `i`
depends only on the seed and on `i`, not on the other images of the batch.

```
keras-simple-diffusion generate --model runs/images --labels 3,3,8,8 \
  --steps 32 --guidance 1.5 --seed 0 --output images.png
```
"""

labels = np.repeat(np.arange(10), PER_CLASS)
images = model.generate(labels=labels, seed=0)
print(f"generated: {images.shape}, {images.dtype}")

"""
## Save the model

A preset is a folder with the network, its averaged weights, the schedule, the
loss, the names of the classes and the defaults of sampling, so it is complete.
On the command line, `generate --model digits_preset` generates images with it.
"""

model.save_to_preset("digits_preset")
loaded = ksd.models.DiffusionModel.from_preset("digits_preset")
again = loaded.generate(labels=[source.class_names[i] for i in labels], seed=0)
difference = np.abs(again.astype("int32") - images).max()
print(f"largest difference of the loaded model's images: {difference}")

"""
## The sheet

`getting_started.png` shows the generated digits, one class per row, without
selection.
"""

cells = np.pad(images[..., 0], ((0, 0), (2, 2), (2, 2)))
cells = cells.reshape(10, PER_CLASS, 20, 20).transpose(0, 2, 1, 3)
sheet = Image.fromarray(cells.reshape(10 * 20, PER_CLASS * 20))
sheet.resize((3 * sheet.width, 3 * sheet.height)).save("getting_started.png")
