"""
Title: Evaluation of generated images
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: FID, KID, precision, recall, class accuracy and likelihood.
Accelerator: None
"""

"""
Generated images are compared with real images by the features that a network
computes for them. This guide first measures images with known faults, to show
how each metric responds to each fault. Then it evaluates a model, in Python and
on the command line.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import pathlib
import subprocess
import sys
import warnings

import keras
import numpy as np
from keras import layers
from matplotlib import pyplot as plt
from PIL import Image, ImageFilter

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
CLASSIFIER_EPOCHS, EPOCHS = (1, 1) if FAST else (60, 40)
CHANNELS, BLOCKS = ((8,), (1,)) if FAST else ((32, 96), (1, 3))
NUM_TRAINED, NUM_TESTED = (64, 32) if FAST else (1408, 360)
NUM_DRAWN, NUM_STEPS, NUM_TIMES = (100, 2, 2) if FAST else (400, 32, 32)
REPEATS = 2 if FAST else 20

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
train_images, train_labels = ksd.data.load_digits(16, "train")
test_images, test_labels = ksd.data.load_digits(16, "test")
# The digits are ordered by writer.
order = rng.permutation(len(train_images))
train_images, train_labels = train_images[order], train_labels[order]

"""
## Features

FID is defined with the Inception network of 2015, which has 2,048 features and
was trained on the thousand classes of ImageNet.
`ksd.metrics.InceptionFeatures()` is this network; it downloads its weights
once, and reads them with PyTorch on any backend.

This guide runs offline on handwritten digits, so it uses other features: the
last hidden layer of a small classifier of `uint8` images. The classifier is
trained on the 360 digits of the test split, so all other digits are new to it.
"""

classifier = keras.Sequential(
    [
        keras.Input((16, 16, 1)),
        layers.Rescaling(1 / 127.5, offset=-1.0),
        layers.Conv2D(16, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(128, activation="relu", name="features"),
        layers.Dense(10),
    ]
)
classifier.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
)
classifier.fit(
    test_images, test_labels, 40, epochs=CLASSIFIER_EPOCHS, verbose=0
)
embedder = keras.Model(
    classifier.inputs, classifier.get_layer("features").output
)


def features(images):
    """Compute features of shape `(N, 128)` of `uint8` images."""
    return embedder.predict(images, batch_size=100, verbose=0)


"""
With `features = ksd.metrics.InceptionFeatures()` only the numbers below would
change. Distances can only be compared with distances for the same features and
the same number of images.

The Fréchet distance needs the mean and the covariance of the features, which
`feature_statistics` accumulates batch by batch. KID, precision and recall
compare all pairs of features.
"""

real, others = train_images[:700], train_images[700:1400]
real_features = features(real)
real_statistics = ksd.metrics.feature_statistics(real, features)


def measure(images):
    """Compute FID, KID, precision and recall of images."""
    statistics = ksd.metrics.feature_statistics(images, features)
    fid = ksd.metrics.frechet_distance(statistics, real_statistics)
    found = features(images)
    kid, _ = ksd.metrics.kernel_distance(found, real_features, num_subsets=10)
    return fid, kid, *ksd.metrics.precision_recall(found, real_features)


"""
With fewer than 10,000 images `frechet_distance` warns of a large bias, which a
later section explains. Until then, all distances are computed from 300 images.
"""

warnings.filterwarnings("ignore", message="A Fréchet distance")

"""
## Response of the metrics to faults

Real digits that are new to the classifier are degraded in three ways.
"""


def add_noise(level):
    noisy = others[:300] + rng.normal(0.0, level, (300, 16, 16, 1))
    return np.clip(np.round(noisy), 0, 255).astype("uint8")


def blur(radius, count=300):
    blurring = ImageFilter.GaussianBlur(radius)
    images = [Image.fromarray(x[..., 0]) for x in others[:count]]
    return np.stack([x.filter(blurring) for x in images])[..., None]


def leave_out(classes):
    return others[train_labels[700:1400] >= classes][:300]


faults = {
    "noise (grey levels)": (add_noise, [0, 24, 48, 72, 96]),
    "blur (pixels)": (blur, [0, 0.5, 1, 1.5, 2]),
    "classes left out": (leave_out, [0, 1, 2, 3, 4, 5]),
}
scores = {}
for fault, (spoil, amounts) in faults.items():
    scores[fault] = np.array([measure(spoil(amount)) for amount in amounts])
    print(f"\n{fault:>20}     FID      KID  precision  recall")
    for amount, row in zip(amounts, scores[fault], strict=True):
        print("{:>20} {:7.2f} {:8.3f} {:10.2f} {:7.2f}".format(amount, *row))

"""
FID and KID increase with every fault and do not distinguish the faults.
Precision is the share of generated images within the manifold of real images;
recall is the share of real images within the manifold of generated ones. Noise
and blur reduce both. If classes are missing, the remaining images are as good
as before, and only recall decreases.

## FID and the number of images

Means and covariances of few images have random errors, which increase the
Fréchet distance: with `n` images the bias is about `c / n` ([Chong and Forsyth,
2020](https://arxiv.org/abs/1911.07023)). The estimate of KID is unbiased
([Binkowski et al., 2018](https://arxiv.org/abs/1801.01401)). The table shows
both for an increasing number of slightly blurred digits, averaged over several
random subsets.
"""

blurred = features(blur(0.6, 700))
counts = [25, 50, 75, 100, 150, 200, 300, 450, 700]
fids, kids = np.zeros((2, len(counts), REPEATS))
for i, count in enumerate(counts):
    for j in range(REPEATS):
        some = rng.permutation(blurred)[:count]
        statistics = ksd.metrics.FeatureStatistics(some.shape[1])
        statistics.add(some)
        fids[i, j] = ksd.metrics.frechet_distance(statistics, real_statistics)
        kids[i, j], _ = ksd.metrics.kernel_distance(
            some, real_features, num_subsets=2, seed=j
        )
    print(
        f"{count:4} images: FID {fids[i].mean():6.2f}, KID {kids[i].mean():.3f}"
    )

"""
A FID must therefore be reported with its number of images; the papers use
50,000. The bootstrap estimates its random error, and a linear fit in `1 / n`
extrapolates it to infinitely many images.
"""

fid = fids[-1].mean()
error = ksd.metrics.bootstrap_frechet_distance(blurred, real_statistics)
limit = ksd.metrics.extrapolated_frechet_distance(blurred, real_statistics)
print(f"FID of 700: {fid:.2f} ± {1.96 * error:.2f}")
print(f"FID of infinitely many: {limit:.2f}")

"""
## A model

A small class-conditional model is trained for a few minutes on the digits of
the training split, and compared with real digits in the same way.
"""

backbone = ksd.models.UViTBackbone(
    (16, 16, 1),
    channels=CHANNELS,
    blocks=BLOCKS,
    num_classes=10,
    embedding_dim=CHANNELS[-1],
)
model = ksd.models.DiffusionModel(backbone, num_steps=NUM_STEPS)
model.compile(keras.optimizers.Adam(1e-3), ema_decay=0.99)
model.fit(
    {
        "images": train_images[:NUM_TRAINED],
        "labels": train_labels[:NUM_TRAINED],
    },
    batch_size=64,
    epochs=EPOCHS,
    verbose=2 if FAST else 0,
)
asked = np.arange(NUM_DRAWN) % 10
drawn = model.generate(labels=asked, seed=0)

"""
Features do not show whether an image belongs to the requested class, but a
classifier does. `ClassifierOutputs` loads the `.keras` file of any classifier.
"""

classifier.save("classifier.keras")
read = ksd.metrics.ClassifierOutputs("classifier.keras")
compared = {
    "generated": (drawn, asked),
    "real, new": (others[:NUM_DRAWN], train_labels[700 : 700 + NUM_DRAWN]),
}
print("                FID      KID  precision  recall        accuracy")
for name, (images, labels) in compared.items():
    accuracy = (read(images).argmax(axis=1) == labels).mean()
    row = (*measure(images), accuracy)
    print("{:10} {:8.2f} {:8.3f} {:10.2f} {:7.2f} {:14.3f}".format(name, *row))

"""
Bits per dimension need neither features nor generated images. They are an upper
bound on the code length of given images under the model, in bits per value
([Kingma et al., 2021](https://arxiv.org/abs/2107.00630)). If held-out digits
need hardly more bits than training digits, the model has not memorized the
training set.
"""

splits = {
    "training": (train_images, train_labels),
    "held-out": (test_images, test_labels),
}
for name, (images, labels) in splits.items():
    bound = ksd.metrics.bits_per_dimension(
        model, images[:NUM_TESTED], labels[:NUM_TESTED], NUM_TIMES
    )
    print(
        f"{name} digits: {bound.mean:.3f} ± {1.96 * bound.standard_error:.3f} "
        "bits per dimension"
    )

"""
## On the command line

`evaluate` generates images, compares them with each split of the data and
writes a report that contains everything needed to reproduce it, including seed
and digests:

```
keras-simple-diffusion evaluate --model runs/photos --data photos/ \\
  --metrics fid,fid_infinity,kid,precision_recall,nearest,conditioning \\
  --num-images 10000 --output report.json
```

`nearest` finds the training images that are nearest to the generated ones, and
says how many are too near; `conditioning` measures agreement with the labels or
prompts. These metrics use Inception; without network access, pass its weights
with `--feature-weights FILE`. The command below uses two metrics that do not
need Inception. It also writes `report.md`, a section of a model card.
"""

model.save_to_preset("digits")
command = (
    "evaluate --model digits --data digits --classifier classifier.keras "
    "--metrics class_accuracy,bits_per_dimension --num-images 200 --seed 0 "
    "--output report.json"
)
if not FAST:
    program = [sys.executable, "-m", "keras_simple_diffusion"]
    subprocess.run([*program, *command.split()], check=True)
    print(pathlib.Path("report.md").read_text())

"""
## The image
"""

figure, axes = plt.subplots(2, 4, figsize=(12, 5), layout="constrained")
for (upper, lower), (fault, (_, amounts)) in zip(
    axes.T, faults.items(), strict=False
):
    fid, kid, precision, recall = scores[fault].T
    upper.plot(amounts, fid, "o-", label="FID")
    upper.plot(amounts, 10 * kid, "s-", label="10 KID")
    lower.plot(amounts, precision, "o-", color="C2", label="precision")
    lower.plot(amounts, recall, "s-", color="C3", label="recall")
    lower.set(xlabel=fault, ylim=(0, 1.05))
upper, lower = axes[:, 3]
upper.plot(counts, fids.mean(axis=1), "o-", label="FID")
upper.axhline(limit, color="C0", linestyle=":", label="FID, extrapolated")
upper.plot(counts, 10 * kids.mean(axis=1), "s-", label="10 KID")
upper.set(xlabel="images", ylim=(0, None))
sheet = {"noise": add_noise(72), "blur": blur(1.5), "generated": drawn}
lower.imshow(
    np.vstack([np.hstack(each[:5, ..., 0]) for each in sheet.values()]),
    cmap="gray",
)
lower.set(xticks=[], yticks=[8, 24, 40], yticklabels=sheet)
for cell in (*axes[:, 0], upper):
    cell.legend()
figure.savefig("evaluation.png", dpi=80)
print(
    "evaluation.png: FID, KID, precision and recall for increasing noise, blur "
    "and missing classes, and for an increasing number of images."
)
