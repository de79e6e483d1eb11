"""
Title: Text to image
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Train on captions and generate unseen combinations of words.
Accelerator: None
"""

"""
## Setup

A class-conditional model takes the number of a class; a text-to-image model
attends to the embeddings of a caption (sec. 3.6 of [simple
diffusion](https://arxiv.org/abs/2301.11093)). The advantage of texts is
*composition*: words that were learned from different captions can be combined.
This guide measures composition on coloured digits.
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
and digit are held out. For example, the training set contains red digits and
zeros, but no red zero.

A fifth of the captions omits the colour, so that prompts can omit it as well.
"""

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")
DIGITS = "zero one two three four five six seven eight nine".split()
BACKGROUNDS = ("black", "grey")


def is_held_out(colour, digit):
    return digit % 6 == colour


def paint(ink, colour, background):
    """Colour a digit of shape (16, 16, 1) with values in [0, 1]."""
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
        named = None if rng.random() < 0.2 else colour
        captions.append(caption(named, digit, background))
images = np.stack(images)
if FAST:
    images, captions = images[:128], captions[:128]
print(f"{len(images)} images, {len(set(captions))} different captions")
print(captions[:5])

"""
## The model

`learn_vocabulary` makes a token for every word. `TextTransformer` is a small
encoder that is trained and saved together with the network. `context_dim` makes
the network text-conditional: its transformer blocks attend to the tokens.

Texts are padded to `sequence_length`, so one compiled program serves all texts.

Colour and background extend over three channels and many pixels, so they are
visible even at high noise. `noise_size=4` adds noise (eq. 5), so that more of
the training takes place at levels where only the caption determines the digit.
Muon suits a network whose weights are mostly matrices (`docs/training.md`).
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
In training, a tenth of the captions (`caption_dropout`) is replaced by the
empty text, which guidance uses for its unconditional prediction.
"""

model.fit(
    {"images": images, "captions": np.array(captions)},
    batch_size=32,
    epochs=EPOCHS,
    verbose=2,
)

"""
## Generating all sixty combinations

`generate` returns one image for each prompt. `guidance_scale` determines how
closely the images follow the prompts; the guide on class-conditional models
measures its effect.
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
Two simple measures show whether a prompt was followed. The *hue* of the strokes
is compared with those of the six colours. The *digit* is classified by a
support vector machine, which is trained on the real grey digits and is given
the distance of each pixel from the background.
"""

reader = SVC(C=10.0).fit(scans.reshape(len(scans), -1) / 255, scanned)


def read(images):
    """Recognize the colour, digit and background of each image."""
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

`negative_prompts` replace the empty text, so guidance moves away from them. The
prompt "a seven on black" does not specify the colour; with the negative prompt
"a red seven on black" the colour should not be red.
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

`TextTransformer` knows only the words of its training captions. For free text
use an encoder that was pretrained on a large corpus, such as the encoder of T5,
which the paper uses. keras_hub downloads its weights at first use, so this part
of the guide is not executed:

```python
encoder = ksd.text.PretrainedTextEncoder("t5_1.1_small", sequence_length=64)
backbone = ksd.models.UViTBackbone(
    ..., context_dim=encoder.embedding_dim
)
model = ksd.models.TextToImage(backbone, encoder)
```

The encoder is frozen and is not part of the model's preset, which stores the
encoder's name, its revision and the embeddings of the empty text.

Because the encoder is frozen, the embeddings of a caption never change and can
be precomputed. On the command line, `embed` computes the embeddings for a
folder of images with the encoder of a preset (T5-XXL and 128 tokens for
`uvit_text_256`),

```
keras-simple-diffusion embed --data photos --preset uvit_text_256 --output cache
```

and `train --preset uvit_text_256 --embeddings cache` uses them. In your own
code, read them from the folder and pass them instead of the captions, to a
network with the `context_dim` of the encoder:

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
`text_to_image.png` shows the first generated image of each combination. The
combinations with an orange frame were held out of the training.
"""
