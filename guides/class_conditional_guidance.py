"""
Title: Class-conditional training and guidance
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Train on digits with labels and compare kinds of guidance.
Accelerator: None
"""

"""
## Setup

A class-conditional model learns the distribution of images of each class.
*Guidance* makes the generated images more typical of their class than the
training images, and less varied. This guide trains such a model on
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
## Training with label dropout

Guidance needs two predictions of the same network, with and without the class.
In training, a tenth of the labels (`label_dropout`) is therefore replaced by
the null label, which is `num_classes`.
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
This early state of the model is saved, for use as the *weaker model* below.
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

- *Accuracy*: the share of generated digits that a support vector machine,
  trained on real digits, classifies as the requested class.
- *Spread*: the mean distance between two images of one class (root mean square
  difference of grey levels in [0, 1]).
- *White*: the share of pixels with a grey level of at least 250 of 255.

Real held-out digits are the reference.
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

Each sampling step combines two predictions of the noise, one for the class and
one for the null label (eq. 7 of [simple
diffusion](https://arxiv.org/abs/2301.11093)):

```
(1 + eta) epsilon(z, label) - eta epsilon(z, null)
```

`guidance_scale` is the factor `1 + eta`. A scale of 1 means no guidance, and
each step evaluates the network once instead of twice. The scale is an argument
of the compiled program, so changing it does not cause a compilation.

Every scale uses the same seed and so the same noise: image `i` of one scale
corresponds to image `i` of the others.
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

At high noise, guidance selects among the many variants of a class and so
reduces the spread; at low noise, it has little effect. `guidance_interval`
restricts guidance to the log-SNRs in between ([Kynkäänniemi et al.,
2024](https://arxiv.org/abs/2404.07724)). Steps outside the interval evaluate
the network once. The interval here covers the less noisy half of the steps
except the last ones.
"""

draw("scale 4, interval", guidance_scale=4.0, guidance_interval=(0.0, 5.0))

"""
## Rescaling

Guidance extrapolates, so strong guidance saturates pixels. `guidance_rescale`
scales the guided prediction towards the standard deviation of the unguided one
([Lin et al., 2023](https://arxiv.org/abs/2305.08891), sec. 3.4): 0 has no
effect, and 1 gives the same standard deviation.
"""

draw("scale 4, rescaled", guidance_scale=4.0, guidance_rescale=1.0)

"""
## A weaker model as guide

*Autoguidance* ([Karras et al., 2024](https://arxiv.org/abs/2406.02507))
replaces the unconditional prediction by that of a weaker model for the same
class, so it moves away from the mistakes of the weaker model. Here this is the
model after the first epochs. The weaker model must have the same image shape
and classes, and may be smaller. Autoguidance also works for unconditional
models.
"""

early = ksd.models.DiffusionModel.from_preset("early")
draw("scale 2, weaker model", guidance_scale=2.0, guidance_model=early)

"""
## Comparison

Accuracy increases and spread decreases with the scale. An interval preserves
more of the spread. Rescaling reduces the number of white pixels. The weaker
model reduces the spread least.
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
Each row of `class_conditional_guidance.png` shows two digits of each class:
real digits, then digits generated from the same noise with different guidance,
with their accuracy, spread and share of white pixels.
"""
