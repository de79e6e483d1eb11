"""
Title: Class-conditional training and guidance
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Train on digits with their classes, and choose how strongly to
    guide.
Accelerator: None
"""

"""
## Setup

A class-conditional model learns what pictures of each class look like.
*Guidance* then makes the drawn pictures more like their class than the
training pictures are, and less varied. This guide trains such a model on
scikit-learn's handwritten digits and measures both effects.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.svm import SVC

import keras_simple_diffusion as ksd

FAST = os.environ.get("KSD_GUIDE_FAST") == "1"  # A short run, to test this guide.
CHANNELS, BLOCKS = ((8, 8), (1, 1)) if FAST else ((32, 96), (1, 4))
EARLY_EPOCHS, EPOCHS = (1, 2) if FAST else (8, 48)
PER_CLASS, NUM_STEPS = (2, 2) if FAST else (16, 24)

keras.utils.set_random_seed(0)

"""
## Training with labels that are dropped

Guidance needs two predictions of one network: with the class, and without.
So in training a tenth of the labels (`label_dropout`) is replaced by the null
label, which is `num_classes`. The rest is as without classes.
"""

images, labels = ksd.data.load_digits(image_size=16, split="train")
if FAST:
    images, labels = images[:128], labels[:128]

backbone = ksd.models.UViTBackbone(
    image_shape=(16, 16, 1),
    channels=CHANNELS,
    blocks=BLOCKS,
    dropout=0.1,
    dropout_max_size=8,
    num_classes=10,
    embedding_dim=CHANNELS[-1],
)
model = ksd.models.DiffusionModel(
    backbone,
    schedule=ksd.schedules.ShiftedCosineSchedule(image_size=16, noise_size=16),
    loss=ksd.losses.DiffusionLoss(error_type="v"),
    label_dropout=0.1,
)
model.compile(
    ksd.optimizers.make_optimizer("adam", 1e-3, warmup_steps=50),
    ema_decay=0.999,
)
data = {"images": images, "labels": labels}
model.fit(data, batch_size=64, epochs=EARLY_EPOCHS, verbose=2)

"""
The model of this early moment is kept for later: it will be the *weaker model*.
"""

model.save_to_preset("early")
model.fit(
    data,
    batch_size=64,
    initial_epoch=EARLY_EPOCHS,
    epochs=EPOCHS,
    verbose=2,
)

"""
## Two measures

A support vector machine that is trained on the real digits reads the drawn
ones; its *accuracy* is the share that it reads as the class asked for. The
*spread* is the mean distance between two pictures of one class, as root mean
square difference of grey levels in [0, 1]. Those of real digits that were held
out are the reference: a good model has both as high as they have.
"""

reader = SVC(C=10.0).fit(images.reshape(len(images), -1) / 255, labels)


def measure(pictures, labels):
    pictures = pictures.reshape(len(pictures), -1) / 255
    distances = []
    for label in range(10):
        chosen = pictures[labels == label]
        differences = chosen[:, None] - chosen[None]
        pairs = np.triu_indices(len(chosen), 1)
        distances.append(np.sqrt((differences**2).mean(-1))[pairs].mean())
    return reader.score(pictures, labels), float(np.mean(distances))


held_out = ksd.data.load_digits(image_size=16, split="test")
results = {"real, held out": (held_out[0], *measure(*held_out))}

"""
## The guidance scale

With the prediction $\\hat\\epsilon(z, y)$ under a class and $\\hat\\epsilon(z)$
under the null label, a step of the sampler uses (eq. 7 of
[simple diffusion](https://arxiv.org/abs/2301.11093))

$$(1 + \\eta) \\hat\\epsilon(z, y) - \\eta \\hat\\epsilon(z).$$

`guidance_scale` is the factor $1 + \\eta$. At 1 nothing is guided, and a step
evaluates the network once instead of twice. The scale is an argument of the
compiled program, so another one does not compile anew.

Every scale gets the same seed, so it starts from the same noise: picture `i` of
one scale belongs to picture `i` of the others.
"""

wanted = np.arange(10 * PER_CLASS) % 10


def draw(name, **options):
    pictures = model.generate(
        labels=wanted, num_steps=NUM_STEPS, seed=0, batch_size=160, **options
    )
    results[name] = (pictures, *measure(pictures, wanted))


for scale in (1.0, 1.5, 2.0, 4.0, 8.0):
    draw(f"scale {scale:g}", guidance_scale=scale)

"""
## Guidance at some noise levels only

At high noise guidance decides early which of the many digits of a class it
will be; at low noise there is little left to decide. `guidance_interval` keeps
it to the log-SNRs in between ([Kynkäänniemi et al.,
2024](https://arxiv.org/abs/2404.07724)): the spread is that of less guidance,
and steps outside of it cost one evaluation.
"""

draw(
    "scale 4, interval", guidance_scale=4.0, guidance_interval=(-4.0, 2.0)
)

"""
## Rescaling

Extrapolation adds contrast. `guidance_rescale` scales the guided prediction
towards the standard deviation of the unguided one ([Lin et al.,
2023](https://arxiv.org/abs/2305.08891), sec. 3.4); 0 does nothing, 1 takes all
back.
"""

draw("scale 4, rescaled", guidance_scale=4.0, guidance_rescale=0.7)

"""
## A weaker model as guide

*Autoguidance* ([Karras et al., 2024](https://arxiv.org/abs/2406.02507)) leads
away from what a weaker model predicts for the same class, not from what belongs
to no class: away from the weaker model's mistakes. Here it is the model after
the first epochs. It has to have the shape and the classes of the model, may be
smaller, and helps unconditional models too.
"""

early = ksd.models.DiffusionModel.from_preset("early")
draw("scale 2, weaker model", guidance_scale=2.0, guidance_model=early)

"""
## All of it side by side
"""

print(f"{'':24}accuracy  spread")
for name, (_, accuracy, spread) in results.items():
    print(f"{name:24}{accuracy:8.3f}{spread:8.3f}")

figure, rows = plt.subplots(len(results), figsize=(8.5, 5.6))
for row, (name, (pictures, accuracy, spread)) in zip(
    rows, results.items(), strict=True
):
    if name.startswith("real"):
        order = np.argsort(held_out[1] + 10 * (np.arange(len(pictures)) > 1e9))
    row.imshow(np.hstack(pictures[:20, ..., 0]), cmap="gray")
    row.set_axis_off()
