"""
Title: Noise schedules and losses
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Why large images need more noise, and how losses weight it.
Accelerator: None
"""

"""
Two choices determine which noise levels dominate the training of a diffusion
model: the schedule determines how often each level occurs, and the loss
determines the weight of the error at each level. This guide plots both and
shows with a photograph why [simple diffusion](https://arxiv.org/abs/2301.11093)
shifts the schedule for large images. It does not train a model.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import io

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from PIL import Image
from sklearn.datasets import load_sample_image

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
DPI = 40 if FAST else 80

"""
## Schedules

Images are noised as `z = alpha x + sigma eps` with `alpha^2 + sigma^2 = 1`, so
the noise level is described by one number, the log-SNR
`log(alpha^2 / sigma^2)`. A schedule is the log-SNR as a function of time, from
0 (clean) to 1 (noise):

- `CosineSchedule`: `-2 log tan(pi t / 2)`, the same for every size,
- `ShiftedCosineSchedule(image_size, noise_size)`: the cosine schedule plus
  `2 log(noise_size / image_size)` (eq. 5),
- `InterpolatedCosineSchedule(image_size, noise_size_low, noise_size_high)`: an
  interpolation between the shift for the high noise size at the clean end and
  the shift for the low noise size at the noisy end (eq. 6),
- `FlowSchedule`: `2 log((1 - t) / t)`, rectified flow,
- `NormalSchedule(mean, std)`: log-SNR with a normal distribution. It is the
  logit-normal time of flows, as in [JiT](https://arxiv.org/abs/2511.13720),
  whose settings at 256 pixels are the defaults.
"""

schedules = {"cosine": ksd.schedules.CosineSchedule()}
for size in (256, 512):
    schedules[f"{size} px, shift 64"] = ksd.schedules.ShiftedCosineSchedule(
        size, noise_size=64
    )
    schedules[f"{size} px, 32 to {size // 2}"] = (
        ksd.schedules.InterpolatedCosineSchedule(size, 32, size // 2)
    )
schedules["256 px, normal"] = ksd.schedules.NormalSchedule(image_size=256)

for name, schedule in schedules.items():
    values = ops.convert_to_numpy(schedule([0.1, 0.5, 0.9]))
    print(f"{name:20}", "log-SNR at 0.1, 0.5, 0.9:", values.round(2))

"""
At 64 pixels, shift 64 equals the cosine schedule. Above 64 pixels, shift 64 is
the default of `DiffusionModel`. The paper's text-to-image models use the
interpolated schedule, which covers a wider range of noise levels. (In the paper
eq. 6 is printed with the two ends exchanged, which gives a narrower range;
exchange the two sizes to obtain it.)

## Why the shift

Average the blocks of `s x s` pixels of a large image, which resembles a view
from a distance. The noise of the pixels is independent, so its average has a
standard deviation of `1 / s`, while the common content of the pixels is
preserved:
"""

photo = Image.fromarray(load_sample_image("flower.jpg")).convert("L")
photo = photo.resize((256, 256), Image.Resampling.LANCZOS, (100, 0, 527, 427))
large = ksd.ops.from_uint8(np.asarray(photo)[None, ..., None])
large_noise = keras.random.normal(large.shape, seed=0)


def average(images, s=4):
    return ops.average_pool(images, s, strides=s, data_format="channels_last")


for s in (1, 2, 4, 8):
    std = float(ops.std(average(large_noise, s)))
    print(f"averages of {s} x {s}: noise of {std:.3f}, 1 / s is {1 / s:.3f}")

"""
Averaging therefore multiplies the SNR by `s^2` (eq. 4). Under the cosine
schedule, an image of 256 pixels that is averaged to 64 pixels has a quarter of
the noise of an image of 64 pixels at the same time. It reaches the noise level
that the small image has at time 0.5 much later:
"""

cosine, shifted = schedules["cosine"], schedules["256 px, shift 64"]
later = float(cosine.time(-2.0 * np.log(4.0)))
print(f"64 pixels at t = 0.5 are as noisy as 256 at t = {later:.2f}")

"""
This leaves little time for the high noise levels, which determine the global
content of the image. Dividing the SNR by `s^2`, which subtracts `2 log(s)` from
the log-SNR, compensates for this. On ImageNet at 256 pixels it improves the FID
of the paper's U-Net from 7.65 to 3.94 with shift 64, and to 3.76 with shift 32
(table 2).

The table shows the noise relative to the signal after averaging to 64 pixels.
With the shift it equals the noise of the small image. Given the same noise,
both images are equal up to rounding and contrast.
"""

small, small_noise = average(large), 4 * average(large_noise)


def noise_up(images, noise, log_snr):
    """Return noisy images, and the same scaled to a signal of 1."""
    noisy = ksd.ops.diffuse(images, noise, log_snr)
    return noisy, noisy / ksd.ops.alpha_sigma(log_snr)[0]


times = (0.2, 0.5, 0.8)
columns = []
print("  t   64 px  256 px  256 px, shifted  difference to 64 px")
for t in times:
    noisy, scaled = noise_up(small, small_noise, cosine(t))
    plain, scaled_plain = noise_up(large, large_noise, cosine(t))
    more, scaled_more = noise_up(large, large_noise, shifted(t))
    scaled_plain, scaled_more = average(scaled_plain), average(scaled_more)
    left = [
        float(ops.std(each - small))
        for each in (scaled, scaled_plain, scaled_more)
    ]
    gap = float(ops.max(ops.abs(scaled_more - scaled)))
    print("{:.1f}  {:6.3f}  {:6.3f}  {:15.3f}".format(t, *left), f"{gap:20.0e}")
    # Show the averages at the contrast of the small image.
    alpha, _ = ksd.ops.alpha_sigma(cosine(t))
    columns.append(
        [noisy, plain, alpha * scaled_plain, more, alpha * scaled_more]
    )

"""
## Errors in epsilon, v and x

The network predicts `v = alpha eps - sigma x`. Given `z`, each of `v`, the
noise `eps` and the clean image `x` can be computed from any other, and the
errors are related by

`eps_error = alpha v_error`, `x_error = sigma v_error` (up to sign)

`DiffusionLoss(error_type=...)` measures the error in the given space,
independently of what the network predicts. The choice is therefore a choice of
weights. The squared error in epsilon is the squared error in v times `alpha^2`,
which vanishes at the noisy end; the squared error in x has the weight
`sigma^2`, which vanishes at the clean end. The paper's text and its U-Nets use
the error in epsilon, its U-ViT the error in v.

A `weighting` is the weight of the error in epsilon as a function of log-SNR. It
is converted to the space of the error:

- `MinSNRWeighting(gamma)` ([Hang et al.](https://arxiv.org/abs/2303.09556)):
  `min(1, gamma / SNR)`, which is `min(SNR, gamma)` in x. It acts like the error
  in epsilon at high noise, and like the error in x at low noise,
- `SigmoidWeighting(bias)` ([SiD2](https://arxiv.org/abs/2410.19324)):
  `-1/2 (d log-SNR / dt) sigmoid(bias - log-SNR)`, with biases of 0 at 128
  pixels, -1 at 256 and -3 at 512. For larger images, low noise levels and thus
  fine detail have less weight.

The weight of each loss is its value for an error in v of 1:
"""

levels = np.linspace(-10.0, 10.0, 201).astype("float32")
losses = {
    "epsilon": ksd.losses.DiffusionLoss(error_type="epsilon"),
    "v": ksd.losses.DiffusionLoss(error_type="v"),
    "x": ksd.losses.DiffusionLoss(error_type="x"),
    "min-SNR 5": ksd.losses.DiffusionLoss(
        weighting=ksd.losses.MinSNRWeighting(gamma=5.0)
    ),
    "flow": ksd.losses.DiffusionLoss(weighting=ksd.losses.FlowWeighting()),
}
for bias in (0.0, -1.0, -3.0):
    losses[f"sigmoid, bias {bias:g}"] = ksd.losses.DiffusionLoss(
        weighting=ksd.losses.SigmoidWeighting(bias)
    )


def weight(loss, schedule):
    """Return the weight of a squared error in v, and the density of times."""
    slope = schedule.derivative(schedule.time(levels))
    ones = np.ones((len(levels), 1, 1, 1), "float32")
    weights = loss(0 * ones, ones, levels, "v", log_snr_derivative=slope)
    return ops.convert_to_numpy(weights), ops.convert_to_numpy(-1.0 / slope)


"""
Times are drawn uniformly, so the density of a noise level is `-dt / d log-SNR`.
The effective weight is this density times the weight of the loss. For most
losses it depends on the schedule. In the sigmoid weighting, the derivative
cancels the density: the weight is a density over log-SNR, as in the evidence
lower bound, and the schedule only affects the variance of the loss. (That of
the normal schedule would be unbounded, because its tails are hardly drawn.)

The error in v and that of a flow have nearly the same weight, a factor of
`(alpha + sigma)^2`, 1 to 2. The recipe of JiT differs from a loss in v by its
noise levels, which are concentrated around its mean.
"""

for name, loss in losses.items():
    a, b = (np.prod(weight(loss, each), axis=0) for each in (cosine, shifted))
    print(f"{name:16} changes with the schedule by {abs(a - b).max():.1e}")

"""
## The multiscale loss

From 512 pixels on, the paper also averages the error to all sizes `s` from 32
upwards and sums its mean squares with the weights `1 / s` (sec. 3.2). Averaging
is linear, so the optimal prediction does not change. Errors in large structures
survive the averaging and are counted at each size, whereas errors in fine
detail are counted only once. Errors that are waves of a single wavelength show
this:
"""

size = 128 if FAST else 512
wavelengths = 2 ** np.arange(1, int(np.log2(size)) + 1)
phases = 2 * np.pi * np.arange(size) / wavelengths[:, None]
waves = np.stack([np.cos(phases), np.sin(phases)], axis=-1)[:, None]
waves = np.broadcast_to(waves, (len(waves), size, size, 2)).astype("float32")
# The mean square of a wave is 1/2 and the smallest weight is 1 / size.
scales = ksd.losses.multiscale_mse(waves, base_size=32)
scales = ops.convert_to_numpy(scales) * 2 * size
print("weight of waves from 2 pixels to the whole image:", scales.round(1))

"""
For training, use `DiffusionLoss(error_type="epsilon", base_size=32)`. Schedule
and loss are arguments of the model and part of its preset:

```
model = ksd.models.DiffusionModel(
    backbone,
    schedule=ksd.schedules.ShiftedCosineSchedule(512, noise_size=64),
    loss=ksd.losses.DiffusionLoss(error_type="epsilon", base_size=32),
)
```

On the command line, the preset determines both.

## The image
"""

figure = plt.figure(figsize=(13, 7.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(4.5, 8.5))
names = ["64 px, cosine", "256 px, cosine", "its averages"]
names += ["256 px, shift 64", "its averages"]
for row, axes in enumerate(left.subplots(5, 3)):
    axes[0].set_ylabel(names[row], fontsize="small")
    for t, column, axis in zip(times, columns, axes, strict=True):
        image = ops.convert_to_numpy(ksd.ops.to_uint8(column[row]))
        axis.imshow(image[0, ..., 0], cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[], title=f"t = {t}" if row == 0 else "")

axes = right.subplots(2, 2).ravel()
t = np.linspace(0.001, 0.999, 201)
for (name, schedule), style in zip(
    schedules.items(), ("k-", "C0-", "C0--", "C1-", "C1--", "C2-"), strict=True
):
    axes[0].plot(t, ops.convert_to_numpy(schedule(t)), style, label=name)
axes[0].set(xlabel="t", ylabel="log-SNR", title="Schedules")
for name, loss in losses.items():
    weights, density = weight(loss, shifted)
    if "sigmoid" in name:
        axes[2].plot(levels, weights * density, label=name)
    else:
        style = "--" if "SNR" in name else "-"
        axes[1].plot(levels, weights, style, label=name)
for name, style in (
    ("cosine", "k--"),
    ("256 px, shift 64", "k:"),
    ("256 px, normal", "k-."),
):
    weights, density = weight(losses["v"], schedules[name])
    axes[2].plot(levels, weights * density, style, label=f"v, {name}")
axes[1].set(xlabel="log-SNR", title="Weight of a squared error in v")
axes[2].set(xlabel="log-SNR", title="Weight times density of times")
axes[3].plot(wavelengths, scales, "o-", label=f"{size} px, from 32")
axes[3].axhline(1.0, color="k", ls="--", label="mean square alone")
axes[3].set(xlabel="wavelength of the error in pixels", xscale="log")
axes[3].set(title="Weight in the multiscale loss", yscale="log")
axes[3].set_xticks(wavelengths, wavelengths)
axes[3].set_yticks((1, 3, 10, 30), (1, 3, 10, 30))
axes[3].minorticks_off()
for axis in axes:
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")

# Noise hardly compresses; few colours keep the file small.
buffer = io.BytesIO()
figure.savefig(buffer, dpi=DPI)
image = (
    Image.open(buffer).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE)
)
image.save("noise_schedules_and_losses.png", optimize=True)

"""
The left half of `noise_schedules_and_losses.png` shows that averages of a large
image are as noisy as a small image at the same time only if the schedule is
shifted. The right half shows schedules, weights and the multiscale loss.
"""
