"""
Title: Text to image
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Train a model of captions, and draw combinations it has not seen.
Accelerator: None
"""

"""
## Setup

A model of texts attends to the embeddings of a caption where a model of classes
takes a number (sec. 3.6 of [simple
diffusion](https://arxiv.org/abs/2301.11093)). What that gains over classes is
*composition*: words that were learnt in different captions can be put together.
This guide measures it, on coloured digits.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from sklearn.svm import SVC

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
CHANNELS, BLOCKS = ((8,), (1,)) if FAST else ((32, 64), (1, 3))
EPOCHS, NUM_STEPS, REPEATS = (1, 2, 1) if FAST else (12, 24, 2)

keras.utils.set_random_seed(0)

"""
## Images with captions

scikit-learn's digits are painted in one of six colours on black or grey, with
captions such as "a red seven on black". Ten of the sixty combinations of colour
and digit are held out: no image of a red zero is ever trained on, but red
digits are, and zeros.

A fifth of the captions leaves the colour out, so that it can be left open.
"""

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")
DIGITS = "zero one two three four five six seven eight nine".split()
BACKGROUNDS = ("black", "grey")


def is_held_out(colour, digit):
    return digit % 6 == colour


def paint(ink, colour, background):
    """Ink of shape (16, 16, 1) in [0, 1] as an image."""
    colour = hsv_to_rgb((colour / 6, 0.9, 0.9))
    return np.uint8(255 * (ink * colour + (1 - ink) * 0.3 * background))


def caption(colour, digit, background):
    colour = "" if colour is None else f"{COLOURS[colour]} "
    return f"a {colour}{DIGITS[digit]} on {BACKGROUNDS[background]}"


rng = np.random.default_rng(0)
scans, scanned = ksd.data.load_digits(image_size=16, split="train")
images, captions = [], []
for ink, digit in zip(scans / 255, scanned, strict=True):
    for colour in range(6):
        if is_held_out(colour, digit):
            continue
        background = rng.integers(2)
        images.append(paint(ink, colour, background))
        told = None if rng.random() < 0.2 else colour
        captions.append(caption(told, digit, background))
images = np.stack(images)
if FAST:
    images, captions = images[:128], captions[:128]
print(f"{len(images)} images, {len(set(captions))} different captions")
print(captions[:5])

"""
## The model

`learn_vocabulary` makes a token of every word, and `TextTransformer` is a small
encoder over them that is trained along with the network and saved with it.
`context_dim` tells the network that it gets texts: its transformer blocks
attend to the tokens.

Texts are padded to `sequence_length`, so that all have one compiled program.

Colour and background can be seen through much noise, in three channels and many
pixels at once. `noise_size=4` adds noise (eq. 5), so that more of the training
is at the levels where the caption has to tell the digit. Muon suits a network
whose weights are mostly matrices (`docs/training.md`).
"""

encoder = ksd.text.TextTransformer(
    ksd.text.learn_vocabulary(captions),
    embedding_dim=64,
    num_layers=1,
    sequence_length=8,
)
print(encoder.tokenize(["a red seven on black"]))

backbone = ksd.models.UViTBackbone(
    image_shape=(16, 16, 3),
    channels=CHANNELS,
    blocks=BLOCKS,
    embedding_dim=CHANNELS[-1],
    context_dim=64,
)
model = ksd.models.TextToImage(
    backbone,
    encoder,
    schedule=ksd.schedules.ShiftedCosineSchedule(image_size=16, noise_size=4),
    guidance_scale=2.0,
)
model.compile(
    ksd.optimizers.make_optimizer("muon", 2e-3, warmup_steps=50),
    ema_decay=0.999,
)

"""
In training a tenth of the captions (`caption_dropout`) is replaced by the empty
one, which guidance needs as unconditional half.
"""

model.fit(
    {"images": images, "captions": np.array(captions)},
    batch_size=32,
    epochs=EPOCHS,
    verbose=2,
)

"""
## Drawing all sixty combinations

A prompt is drawn as an image; `guidance_scale` says how strongly to follow it
(the guide on class-conditional models measures what it does).
"""

wanted = [
    (colour, digit, background)
    for colour in range(6)
    for digit in range(10)
    for background in range(2)
]
images = model.generate(
    [caption(*each) for each in wanted] * REPEATS,
    num_steps=NUM_STEPS,
    seed=0,
    batch_size=120,
)

"""
Two simple measures tell whether a prompt was followed. The *hue* of the strokes
is compared with those of the six colours. The *digit* is read by a support
vector machine that is trained on the real, grey digits, from how far each pixel
is from the background.
"""

reader = SVC(C=10.0).fit(scans.reshape(len(scans), -1) / 255, scanned)


def read(images):
    """Numbers of the colour, digit and background of each image."""
    images = images / 255.0
    ground = np.median(images[:, :, [0, -1]], axis=(1, 2))
    ink = np.abs(images - ground[:, None, None]).max(axis=-1)
    ink = ink / np.maximum(ink.max(axis=(1, 2), keepdims=True), 0.5)
    strokes = (ink > 0.7)[..., None]
    mean = (strokes * images).sum((1, 2)) / np.maximum(strokes.sum((1, 2)), 1)
    hue = rgb_to_hsv(np.clip(mean, 0, 1))[:, 0]
    digits = reader.predict(ink.reshape(len(ink), -1))
    return (
        np.round(6 * hue).astype(int) % 6,
        digits,
        (ground.mean(-1) > 0.15).astype(int),
    )


asked = np.array(wanted * REPEATS)
unseen = np.array([is_held_out(c, d) for c, d, _ in asked])
right = np.stack(read(images), axis=1) == asked
test_scans, test_digits = ksd.data.load_digits(image_size=16, split="test")
repainted = np.stack(
    [paint(ink, i % 6, i % 2) for i, ink in enumerate(test_scans / 255)]
)
order = np.arange(len(test_digits))
real = np.stack([order % 6, test_digits, order % 2], axis=1)
print(f"{'':28}colour  digit  background")
for name, rows in {
    "real digits, painted": np.stack(read(repainted), axis=1) == real,
    "combinations seen": right[~unseen],
    "combinations held out": right[unseen],
}.items():
    print(f"{name:28}" + "".join(f"{share:7.2f}" for share in rows.mean(0)))

"""
## Negative prompts

`negative_prompts` take the place of the empty text in guidance, which then
leads away from them. "a seven on black" leaves the colour open; with "a red
seven on black" as negative prompt it should be anything but red.
"""

count = 12 * REPEATS
for negative in (None, "a red seven on black"):
    drawn = model.generate(
        ["a seven on black"] * count,
        num_steps=NUM_STEPS,
        seed=1,
        batch_size=120,
        negative_prompts=negative,
    )
    colours = np.bincount(read(drawn)[0], minlength=6)
    print(negative, dict(zip(COLOURS, colours.tolist(), strict=True)))

"""
Most become cyan, the colour farthest from red.

## Pretrained encoders

`TextTransformer` knows the words of its training captions and nothing else.
For free text take an encoder that was trained on much of it, such as the
encoder half of T5, which the paper uses. keras_hub downloads its weights at
first use, so this part of the guide is not executed:

```python
encoder = ksd.text.PretrainedTextEncoder("t5_1.1_small", sequence_length=64)
backbone = ksd.models.UViTBackbone(
    ..., context_dim=encoder.embedding_dim
)
model = ksd.models.TextToImage(backbone, encoder)
```

The encoder is frozen, and not in the model's preset: the preset has its name,
its revision and the embeddings of the empty text.

Being frozen, it gives a caption the same embeddings in every step. They can be
made once. On the command line this embeds the captions of a folder of images
with the encoder of a preset (T5-XXL and 128 tokens for `uvit_text_256`),

```
keras-simple-diffusion embed --data photos --preset uvit_text_256 --output cache
```

and `train --preset uvit_text_256` takes them with `--embeddings cache`. In a
loop of your own they are read from that folder, and take the place of the
captions, for a network with the `context_dim` of that encoder:

```python
cache = ksd.data.EmbeddingCache("cache")
found = [cache.read(each, 128) for each in captions]
context, context_mask = map(np.stack, zip(*found))
model.fit(
    {"images": images, "context": context, "context_mask": context_mask}
)
```

## The sheet
"""

figure, axes = plt.subplots(6, 10, figsize=(11, 8.4))
figure.subplots_adjust(0.005, 0.01, 0.995, 0.95, wspace=0.05, hspace=0.4)
for panel, (colour, digit) in zip(axes.ravel(), np.ndindex(6, 10), strict=True):
    each = (colour, digit, (digit + colour // 2) % 2)
    held_out = is_held_out(colour, digit)
    panel.imshow(images[wanted.index(each)])
    panel.set(xticks=[], yticks=[])
    panel.set_title(
        caption(*each).replace(" on ", "\non "),
        fontsize=8,
        fontweight="bold" if held_out else "normal",
    )
    for side in panel.spines.values():
        side.set(color="orange", linewidth=4, visible=held_out)
figure.savefig("text_to_image.png", dpi=80)

"""
`text_to_image.png` shows the first image drawn of each combination; those in
an orange frame were held out of the training.
"""
