"""
Title: Finetune a shipped model on a few images
Author: the keras_simple_diffusion authors
Date created: 2026/11/29
Last modified: 2026/11/29
Description: From some hundred photographs to images of them, in minutes.
Accelerator: None
"""

"""
A network that has seen photographs learns new ones faster than one with random
weights: edges, surfaces and the outlines of things are there already. This
guide finetunes the shipped model `photos_64` on the packaged photographs of
vehicles, in Python. On the command line the same is one line, which chooses all
settings:

```
keras-simple-diffusion train --data photos/ --minutes 10
```
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
NUM_IMAGES, EPOCHS = (8, 1) if FAST else (None, 4)
NUM_STEPS, PER_CLASS = (2, 1) if FAST else (24, 8)
BATCH_SIZE = 4 if FAST else 16

keras.utils.set_random_seed(0)

"""
## The images

Motorbikes, airplanes, cars and sailing boats, at 64 pixels. Images of your own
come from `ksd.data.load_images("photos/", 64)`, where the names of the folders
are the classes.
"""

images, labels, names = ksd.data.load_vehicles(split="train")
print(f"{len(images)} images of {images.shape[1:]}, classes {names}")

"""
## The network with its weights

The network is that of the preset, for another number of classes.
`transfer_weights` copies all that agrees. Given two models, it finds classes by
their names; a class that the shipped model does not know starts at random.
"""

shipped = ksd.models.DiffusionModel.from_preset("photos_64")
print("known classes:", ", ".join(shipped.class_names))

backbone = ksd.models.UViTBackbone.from_preset(
    "photos_64", load_weights=False, num_classes=len(names)
)
model = ksd.models.DiffusionModel.from_preset(
    "photos_64", load_weights=False, backbone=backbone, class_names=names
)
fresh = ksd.models.transfer_weights(shipped, model)
print("random at first:", fresh or "nothing")

"""
Images will be guided away from this start: a copy of it, which is not trained,
takes the place of the model's own prediction without a class, which is trained
on a tenth of the images only.
"""

model.guidance_model = model
model.guidance_scale = 2.0

"""
## Training

The learning rate rises for a few steps only, and falls to zero in the last
third. The average of the weights, with which images are generated, covers about
a tenth of the steps. Half of the images are mirrored: not for letters, logos or
captions that name sides.
"""

mirrored = np.concatenate([images, images[:, :, ::-1]])[:NUM_IMAGES]
labels = np.concatenate([labels, labels])[:NUM_IMAGES]
steps = EPOCHS * -(-len(mirrored) // BATCH_SIZE)

optimizer = ksd.optimizers.make_optimizer(
    "adam",
    5e-4,
    warmup_steps=max(steps // 20, 1),
    steps=steps,
    cooldown_steps=steps // 3,
)
model.compile(optimizer, ema_decay=max(1 - 10 / steps, 0.9))
model.fit(
    {"images": mirrored, "labels": labels},
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    verbose=2,
)

"""
## Images

One row per class. The images are not selected.
"""

drawn = model.generate(
    labels=np.repeat(np.arange(len(names)), PER_CLASS),
    num_steps=NUM_STEPS,
    seed=0,
)
sheet = ksd.utils.show(drawn, columns=PER_CLASS, row_names=names)
sheet.save("finetuning.png")
