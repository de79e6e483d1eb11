"""
Title: High resolution
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: What large images change: schedule, downsampling, loss, memory.
Accelerator: GPU
"""

"""
## Setup

A recipe for 32 pixels fails at 512 for two reasons. Noise that destroys a small
image leaves a large one recognisable, and nearly all compute and memory go
into the highest resolution. [simple
diffusion](https://arxiv.org/abs/2301.11093) answers with a few independent
choices. This guide goes through them at 128 pixels, tells what each costs, and
trains a small network on crops of two photographs.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import math

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
CHANNELS, BLOCKS = ((8, 8), (0, 1)) if FAST else ((96, 96, 192), (0, 1, 4))
STEPS, BATCH_SIZE, NUM_STEPS = (2, 2, 2) if FAST else (900, 8, 32)

keras.utils.set_random_seed(0)

"""
## Crops of two photographs

scikit-learn comes with a photograph of a temple and one of a flower. Made 160
pixels high, each has 75 crops of 128 pixels, eight pixels apart. The photograph
is the class. So few crops are soon known by heart; they are enough to see a
network of this size learn 128 pixels within minutes on a CPU.
"""

SIZE = 128
crops, labels = [], []
for label, photo in enumerate(load_sample_images().images):
    photo = np.asarray(Image.fromarray(photo).resize((240, 160)))
    for y in range(0, 160 - SIZE + 1, 8):
        for x in range(0, 240 - SIZE + 1, 8):
            crops.append(photo[y : y + SIZE, x : x + SIZE])
            labels.append(label)
crops, labels = np.stack(crops), np.array(labels)
print(crops.shape)

"""
## A noise schedule for the size

Averaging `s x s` pixels divides the noise by `s` and keeps the signal, so an
image `s` times as large looks equally noisy only at `s^2` times less SNR (eq.
4). `ShiftedCosineSchedule` takes this off log-SNR: with `noise_size=32`, 128
pixels get the noise that the cosine schedule gives to 32. It leaves little time
for fine detail. `InterpolatedCosineSchedule` moves from one shift at the clean
end to another at the noisy end (eq. 6), and so covers both.
"""

schedules = {
    "cosine": ksd.schedules.CosineSchedule(),
    "shifted, 32": ksd.schedules.ShiftedCosineSchedule(SIZE, noise_size=32),
    "interpolated, 32 to 128": ksd.schedules.InterpolatedCosineSchedule(
        SIZE, noise_size_low=32, noise_size_high=128
    ),
}
times = np.array([0.1, 0.25, 0.5, 0.75, 0.9], "float32")
print(f"{'log-SNR at time':24}" + "".join(f"{t:7.2f}" for t in times))
for name, schedule in schedules.items():
    values = keras.ops.convert_to_numpy(schedule(times))
    print(f"{name:24}" + "".join(f"{value:7.2f}" for value in values))

"""
## Where compute and memory go

A 3x3 convolution of 128 channels on 256 x 256 pixels costs four times as much
as one of 1024 channels on 16 x 16, keeps 32 times as many numbers for the
gradient, and has a 64th of the weights (sec. 3.3, Table 1). So blocks belong to
the low resolutions.
"""

for size, channels in ((256, 128), (16, 1024)):
    kernel = 9 * channels**2
    print(
        f"{channels} channels at {size} x {size}: "
        f"{kernel / 1e6:.2f} M weights, "
        f"{size**2 * channels / 1e6:.2f} M numbers in the feature map, "
        f"{kernel * size**2 / 1e9:.2f} G multiply-accumulates"
    )

"""
## Downsampling the input by a wavelet

The 5/3 wavelet of JPEG 2000 splits an image into four bands of half its size:
one low in both directions, a smaller image, and three of detail. They are
stacked as channels, and the low one is split again at the second level. Nothing
is lost, so the inverse at the network's end restores every pixel.
"""

image = crops[:1] / 127.5 - 1.0
bands = ksd.ops.dwt2(image, levels=2)
restored = ksd.ops.idwt2(bands, levels=2)
print(image.shape, "->", tuple(bands.shape), "->", tuple(restored.shape))
error = np.abs(keras.ops.convert_to_numpy(restored) - image).max()
print(f"largest error, of a range of 2: {error:.1e}")

"""
`downsampling="dwt"` with a factor of 4 puts these two levels at both ends of
the network, which so begins at 32 pixels. (`"conv"` is a strided convolution
instead, as in the patches of a vision transformer.) Beside it is a network that
has convolutional levels for 128 and 64 pixels in its place.

Parameters hardly tell the two apart. What differs is how many numbers all
layers together put out for one image; this is what a training step keeps in
memory.
"""

options = {
    "image_shape": (SIZE, SIZE, 3),
    "num_classes": 2,
    "embedding_dim": 128,
    "dropout": 0.1,
    "dropout_max_size": 16,
}
config = {
    **options,
    "channels": CHANNELS,
    "blocks": BLOCKS,
    "downsampling": "dwt",
    "downsampling_factor": 4,
}
backbone = ksd.models.UViTBackbone(**config)
full = ksd.models.UViTBackbone(
    **options,
    channels=(CHANNELS[0], CHANNELS[0], *CHANNELS),
    blocks=(BLOCKS[0], BLOCKS[0], *BLOCKS),
)
for name, network in {"wavelet by 4": backbone, "from 128 px": full}.items():
    numbers = sum(math.prod(x.output.shape[1:]) for x in network.layers)
    print(
        f"{name:14}{network.count_params() / 1e6:6.2f} M parameters, "
        f"{numbers / 1e6:6.2f} M numbers"
    )

"""
Of the paper's network for 512 pixels the wavelet by 4 leaves 77 % of the
compute and a third of the activations (`docs/costs.md`), and FID gets better,
from 5.60 to 4.85 (Table 5).

## Dropout at low resolution only

Dropout helps against overfitting, but harms where it is applied to high
resolutions (sec. 3.5, Table 3). `dropout` acts on levels of at most
`dropout_max_size` pixels. It has no parameters, and its cost is negligible.
"""

blocks = (ksd.layers.ResidualBlock, ksd.layers.TransformerBlock)
for layer in backbone.layers:
    if isinstance(layer, blocks):
        height = layer.output.shape[1]
        print(f"{layer.name:14} {height:3} px, dropout {layer.dropout_rate}")

"""
## Rematerialisation and mixed precision

Both change neither the parameters nor what the network computes, up to
rounding:

- `rematerialize` names the types of blocks that keep their inputs only, and are
  computed a second time for the gradient. All of them named, a training step
  computes a third more. The paper's U-Net for 128 pixels keeps 144 MB an image
  instead of 1226 (`docs/training.md`).
- `dtype="mixed_bfloat16"` computes the blocks in 16 bits, which halves their
  feature maps and suits the matrix units of GPUs and TPUs. Weights stay in
  float32, and so do the two ends of the network, noise, log-SNR and loss.

On a CPU they gain nothing, so this guide builds such a network, and trains the
plain one.
"""

lean = ksd.models.UViTBackbone(
    **config,
    rematerialize=("residual", "transformer"),
    dtype="mixed_bfloat16",
)
print(f"{lean.count_params() / 1e6:.2f} M parameters")
for name in ("input_conv", "transformer_0", "output_conv"):
    layer = lean.get_layer(name)
    print(f"{name}: {layer.variable_dtype} weights, {layer.compute_dtype}")

"""
## A loss at several resolutions

Most of the squared error of a large image is in fine detail. The multiscale
loss (sec. 3.2) adds the error of averaged images, down to `base_size` pixels.
An error that is the same over 4 x 4 pixels survives the averaging, and counts
more than one of independent pixels with the same mean square:
"""

fine = np.random.default_rng(0).normal(size=(8, SIZE, SIZE, 3))
coarse = fine[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)
for name, error in {"fine": fine, "coarse": coarse}.items():
    loss = keras.ops.mean(ksd.losses.multiscale_mse(error, base_size=32))
    plain = (error**2).mean()
    print(f"{name:7} mean square {plain:.3f}, multiscale {float(loss):.4f}")

"""
The optimum is the same, since averages are linear, and the cost too small to be
measured (`docs/presets.md`). The paper found that it helps from 512 pixels on
(Table 6); here it is on to have the coarse structure within a few minutes.

## Training

All of it together is a U-ViT: few convolutional blocks above a stack of
transformer blocks, which run on 8 x 8 positions here.

`prediction_type="x"` has it predict the clean image. Noise, and so v too, is
different in each of a position's 48 wavelet coefficients, and all of it would
have to pass through the network's 96 channels; the images of such a small
network stay noisy. The error is that of v either way. Of a clean image it is
weighted by its SNR, which must not get too large: `log_snr_max=4` ends where
the noise is a seventh of the signal.
"""

model = ksd.models.DiffusionModel(
    backbone,
    schedule=ksd.schedules.InterpolatedCosineSchedule(
        SIZE, noise_size_low=32, noise_size_high=128, log_snr_max=4.0
    ),
    loss=ksd.losses.DiffusionLoss(error_type="v", base_size=32),
    prediction_type="x",
)
model.compile(
    ksd.optimizers.make_optimizer("muon", 2e-3, warmup_steps=50),
    ema_decay=0.995,
)
batches = ksd.data.training_batches(
    ksd.data.ArraySource(crops, labels), BATCH_SIZE, seed=0
)
model.fit(batches, steps_per_epoch=STEPS // 2, epochs=2, verbose=2)

"""
## Drawn crops

The upper row shows crops of both photographs, the lower one drawn images.
"""

drawn = model.generate(
    labels=[0] * 4 + [1] * 4, num_steps=NUM_STEPS, seed=0, batch_size=8
)
shown = np.concatenate([crops[[0, 24, 50, 74]], crops[[75, 99, 125, 149]]])
sheet = np.vstack([np.hstack(shown), np.hstack(drawn)])
Image.fromarray(sheet).save("high_resolution.png")

"""
`high_resolution.png` shows both. Ten minutes on two cores give places, shapes
and colours; the blocks of 4 pixels are what the network begins with, and fade
with more training. A folder of your own photographs takes the same steps with a
preset for its size, see `docs/presets.md`:

```
keras-simple-diffusion train --preset uvit_imagenet_256 --data photos \\
    --batch-size 64 --dtype mixed_bfloat16 --output runs/photos
```
"""
