"""
Title: High resolution
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Schedule, downsampling, loss and memory for large images.
Accelerator: GPU
"""

"""
## Setup

A recipe for 32 pixels fails at 512 pixels for two reasons: noise that destroys
a small image leaves a large image recognisable, and the highest resolution
takes nearly all compute and memory. [simple
diffusion](https://arxiv.org/abs/2301.11093) solves this with a few independent
techniques. This guide demonstrates them at 128 pixels, shows their costs, and
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

scikit-learn contains a photograph of a temple and one of a flower. Resized to a
height of 160 pixels, each gives 75 crops of 128 pixels at distances of eight
pixels. The photograph is the class. The network soon memorizes so few crops,
but they are sufficient to train it at 128 pixels within minutes on a CPU.
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

Averaging `s x s` pixels divides the noise by `s` and preserves the signal, so
an image `s` times as large looks equally noisy at an SNR that is `s^2` times
lower (eq. 4). `ShiftedCosineSchedule` subtracts this factor from the log-SNR:
with `noise_size=32`, images of 128 pixels get the noise that the cosine
schedule gives to images of 32 pixels. This leaves little time for fine detail.
`InterpolatedCosineSchedule` covers both by moving from one shift at the clean
end to another at the noisy end (eq. 6).
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
## Compute and memory by resolution

A 3x3 convolution with 128 channels at 256 x 256 pixels costs four times as much
as one with 1024 channels at 16 x 16 pixels, stores 32 times as many values for
the gradient, and has a 64th of the weights (sec. 3.3, Table 1). Most blocks
should therefore be at the low resolutions.
"""

for size, channels in ((256, 128), (16, 1024)):
    kernel = 9 * channels**2
    print(
        f"{channels} channels at {size} x {size}: "
        f"{kernel / 1e6:.2f} M weights, "
        f"{size**2 * channels / 1e6:.2f} M values in the feature map, "
        f"{kernel * size**2 / 1e9:.2f} G multiply-accumulates"
    )

"""
## Downsampling the input by a wavelet

The 5/3 wavelet of JPEG 2000 splits an image into four bands of half its size: a
low-pass band, which is a smaller image, and three bands of detail. The bands
are stacked as channels, and the second level splits the low-pass band again.
The transform is invertible, so the inverse at the end of the network restores
every pixel.
"""

image = crops[:1] / 127.5 - 1.0
bands = ksd.ops.dwt2(image, levels=2)
restored = ksd.ops.idwt2(bands, levels=2)
print(image.shape, "->", tuple(bands.shape), "->", tuple(restored.shape))
error = np.abs(keras.ops.convert_to_numpy(restored) - image).max()
print(f"largest error, of a range of 2: {error:.1e}")

"""
`downsampling="dwt"` with a factor of 4 places these two levels at both ends of
the network, whose first level then has 32 pixels. (`"conv"` uses a strided
convolution instead, like the patches of a vision transformer.) For comparison,
a second network has convolutional levels at 128 and 64 pixels instead of the
wavelet.

Both have nearly the same number of parameters. They differ in the number of
values that all layers together compute for one image, which determines the
memory of a training step.
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
        f"{numbers / 1e6:6.2f} M values"
    )

"""
In the paper's network for 512 pixels, the wavelet with factor 4 reduces the
compute to 77 % and the activations to a third (`docs/costs.md`), and FID
improves from 5.60 to 4.85 (Table 5).

## Dropout at low resolution only

Dropout reduces overfitting but is harmful at high resolutions (sec. 3.5, Table
3). `dropout` applies to levels of at most `dropout_max_size` pixels. It has no
parameters, and its cost is negligible.
"""

blocks = (ksd.layers.ResidualBlock, ksd.layers.TransformerBlock)
for layer in backbone.layers:
    if isinstance(layer, blocks):
        height = layer.output.shape[1]
        print(f"{layer.name:14} {height:3} px, dropout {layer.dropout_rate}")

"""
## Rematerialisation and mixed precision

Neither technique changes the parameters or, up to rounding, the output of the
network:

- `rematerialize` lists the types of blocks that store only their inputs and are
  recomputed for the gradient. If all types are listed, a training step computes
  a third more. `uvit_small_64` then keeps 11 MB per image
  instead of 53 (`docs/training.md`).
- `dtype="mixed_bfloat16"` computes the blocks in 16 bits, which halves the size
  of their feature maps and uses the matrix units of GPUs and TPUs. Weights, the
  two ends of the network, noise, log-SNR and loss remain in float32.

They have no advantage on a CPU, so this guide only builds such a network, and
trains the plain one.
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
loss (sec. 3.2) adds the errors of averaged images, down to `base_size` pixels.
An error that is constant over 4 x 4 pixels survives the averaging and has a
higher weight than an independent error of each pixel with the same mean square:
"""

fine = np.random.default_rng(0).normal(size=(8, SIZE, SIZE, 3))
coarse = fine[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)
for name, error in {"fine": fine, "coarse": coarse}.items():
    loss = keras.ops.mean(ksd.losses.multiscale_mse(error, base_size=32))
    plain = (error**2).mean()
    print(f"{name:7} mean square {plain:.3f}, multiscale {float(loss):.4f}")

"""
The optimum is unchanged because averages are linear, and the cost is too small
to be measured (`docs/presets.md`). In the paper the loss helps from 512 pixels
on (Table 6); here it is used to learn the coarse structure within a few
minutes.

## Training

The complete network is a U-ViT: a few convolutional blocks around a stack of
transformer blocks, which process 8 x 8 positions here.

With `prediction_type="x"` the network predicts the clean image. To predict v,
it would have to pass the independent noise of the 48 wavelet coefficients at
each position through its 96 channels, and a network as small as this would
generate noisy images. The loss is the error in v in both cases. For a predicted
clean image this error has the weight 1 + SNR, so the SNR must be bounded:
`log_snr_max=4` is the level at which the noise is a seventh of the signal.
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
## Generated crops

The upper row shows crops of both photographs, the lower row generated images.
"""

drawn = model.generate(
    labels=[0] * 4 + [1] * 4, num_steps=NUM_STEPS, seed=0, batch_size=8
)
shown = np.concatenate([crops[[0, 24, 50, 74]], crops[[75, 99, 125, 149]]])
sheet = np.vstack([np.hstack(shown), np.hstack(drawn)])
Image.fromarray(sheet).save("high_resolution.png")

"""
`high_resolution.png` shows both rows. After ten minutes on two cores,
positions, shapes and colours are right. The blocks of 4 pixels come from the
wavelet with factor 4 and fade with more training. To train on a folder of
photographs, use a preset for their size (see `docs/presets.md`):

```
keras-simple-diffusion train --preset uvit_imagenet_256 --data photos \\
    --batch-size 64 --dtype mixed_bfloat16 --output runs/photos
```
"""
