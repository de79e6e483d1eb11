"""
Title: Class-conditional training and guidance
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Train on digits with their classes, and choose how to guide.
Accelerator: None
"""

"""
## Setup

A class-conditional model learns what images of each class look like.
*Guidance* then makes the drawn images more like their class than the
training images are, and less varied. This guide trains such a model on
scikit-learn's handwritten digits and measures both effects.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.svm import SVC

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
CHANNELS, BLOCKS = ((8,), (1,)) if FAST else ((32, 96), (1, 4))
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
history = model.fit(data, batch_size=64, epochs=EARLY_EPOCHS, verbose=0)
print(f"loss after {EARLY_EPOCHS} epochs: {history.history['loss'][-1]:.3f}")

"""
The model of this early moment is kept for later: it will be the *weaker model*.
"""

model.save_to_preset("early")
history = model.fit(
    data,
    batch_size=64,
    initial_epoch=EARLY_EPOCHS,
    epochs=EPOCHS,
    verbose=0,
)
print(f"loss after {EPOCHS} epochs: {history.history['loss'][-1]:.3f}")

"""
## Three measures

- *Accuracy*: a support vector machine that is trained on the real digits reads
  the drawn ones; the share that it reads as the class asked for.
- *Spread*: the mean distance between two images of one class, the root mean
  square difference of grey levels in [0, 1].
- *White*: the share of pixels of at least 250 of 255.

Those of real digits that were held out are the reference.
"""

reader = SVC(C=10.0).fit(images.reshape(len(images), -1) / 255, labels)
rows = {}


def measure(name, images, labels):
    pixels = images.reshape(len(images), -1) / 255
    distances, shown = [], []
    for label in range(10):
        chosen = np.flatnonzero(labels == label)
        pairs = pixels[chosen][:, None] - pixels[chosen][None]
        pairs = np.sqrt((pairs**2).mean(-1))
        distances.append(pairs[np.triu_indices(len(chosen), 1)].mean())
        shown.append(images[chosen[:2]])
    accuracy = reader.score(pixels, labels)
    white = (images >= 250).mean()
    rows[name] = (accuracy, np.mean(distances), white, np.concatenate(shown))


measure("real, held out", *ksd.data.load_digits(image_size=16, split="test"))

"""
## The guidance scale

A step of the sampler uses two predictions of the noise, one under the class and
one under the null label, as (eq. 7 of [simple
diffusion](https://arxiv.org/abs/2301.11093))

```
(1 + eta) epsilon(z, label) - eta epsilon(z, null)
```

`guidance_scale` is the factor `1 + eta`. At 1 nothing is guided, and a step
evaluates the network once instead of twice. The scale is an argument of the
compiled program, so another one does not compile anew.

Every scale gets the same seed, and so starts from the same noise: image `i`
of one scale belongs to image `i` of the others.
"""

wanted = np.arange(10 * PER_CLASS) % 10


def draw(name, **options):
    images = model.generate(
        labels=wanted,
        num_steps=NUM_STEPS,
        seed=0,
        batch_size=len(wanted),
        **options,
    )
    measure(name, images, wanted)


for scale in (1.0, 1.5, 2.0, 4.0, 8.0):
    draw(f"scale {scale:g}", guidance_scale=scale)

"""
## Guidance at some noise levels only

At high noise guidance decides which of the many digits of a class it will be,
and so takes spread; at low noise little is left to decide. `guidance_interval`
keeps it to the log-SNRs in between ([Kynkäänniemi et al.,
2024](https://arxiv.org/abs/2404.07724)). Steps outside of it evaluate the
network once. This interval is the less noisy half of the steps, but for the
last ones.
"""

draw("scale 4, interval", guidance_scale=4.0, guidance_interval=(0.0, 5.0))

"""
## Rescaling

Extrapolation overshoots, so strong guidance saturates pixels.
`guidance_rescale` scales the guided prediction towards the standard deviation
of the unguided one ([Lin et al., 2023](https://arxiv.org/abs/2305.08891), sec.
3.4): not at all with 0, fully with 1.
"""

draw("scale 4, rescaled", guidance_scale=4.0, guidance_rescale=1.0)

"""
## A weaker model as guide

*Autoguidance* ([Karras et al., 2024](https://arxiv.org/abs/2406.02507)) leads
away from what a weaker model predicts for the same class: away from its
mistakes, instead of from all that belongs to no class. Here it is the model
after the first epochs. A weaker model has the images' shape and the classes
of the model and may be smaller. It guides unconditional models too.
"""

early = ksd.models.DiffusionModel.from_preset("early")
draw("scale 2, weaker model", guidance_scale=2.0, guidance_model=early)

"""
## All of it side by side

What to look for: accuracy rises and spread falls with the scale. Within an
interval more of the spread stays. Rescaling leaves fewer pixels white. The
weaker model costs the least spread.
"""

header = f"{'':22} accuracy  spread   white"
print(header)
figure, axes = plt.subplots(len(rows), figsize=(10, 4.2), layout="tight")
for panel, (name, (accuracy, spread, white, images)) in zip(
    axes, rows.items(), strict=True
):
    measures = f"{accuracy:8.3f}{spread:8.3f}{white:8.3f}"
    print(f"{name:22} {measures}")
    panel.imshow(np.hstack(images[..., 0]), cmap="gray", vmin=0, vmax=255)
    panel.set_axis_off()
    text = {"va": "center", "family": "monospace", "fontsize": 9}
    panel.text(-4, 8, name, ha="right", **text)
    panel.text(324, 8, measures, **text)
axes[0].text(324, -8, header[23:], **text)
figure.savefig("class_conditional_guidance.png", dpi=100)

"""
`class_conditional_guidance.png` shows two digits of each class by row: real
ones, and those drawn from the same noise with more and more guidance, beside
their accuracy, spread and share of white pixels.
"""
