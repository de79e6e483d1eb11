"""
Title: Writing a sampler
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: Implement a sampler and check it against an exact solution.
Accelerator: None
"""

"""
A sampler turns noise into images: it steps through a grid of decreasing noise
levels and evaluates the network at each level. In this library a sampler is a
class with one method. This guide implements a second-order sampler, measures
its order on data with a known exact solution, and generates digits with it.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_simple_diffusion as ksd

# A short run, to test this guide.
FAST = os.environ.get("KSD_GUIDE_FAST") == "1"
COUNTS = (32, 64) if FAST else (16, 32, 64, 128, 256)
STEPS, BATCH_SIZE = (2, 16) if FAST else (1600, 64)
CHANNELS, BLOCKS = ((16,), (1,)) if FAST else ((32, 96), (1, 3))
SAMPLING_STEPS = (4,) if FAST else (4, 8, 16, 64)

"""
## The interface of a sampler

Noise levels are log-SNRs, from the noisy to the clean end of a schedule.
`spacing` determines their distribution: uniform in time, as in the papers,
uniform in log-SNR, or as in EDM.
"""

schedule = ksd.schedules.CosineSchedule(log_snr_min=-8.0, log_snr_max=8.0)
for spacing in ("time", "log_snr", "power"):
    grid = ksd.samplers.log_snr_grid(schedule, 4, spacing)
    print(f"{spacing:8}", ops.convert_to_numpy(grid).round(1))

"""
`Sampler.sample(denoise, noise, grid)` steps through the grid. For each step it
calls

```
step(denoise, at, draw_noise) -> (noisy_images, clean_images[, memory])
```

- `denoise(noisy_images, log_snr)` returns the predicted clean images. It
  includes guidance and clipping.
- `at` is the state of sampling: `noisy_images`, `log_snr`, `next_log_snr`,
  `is_first`, `is_last` and `num_steps`; `level(-1)`, the previous noise level;
  and `memory`, the third value that the previous step returned.
- `draw_noise()` returns fresh noise, for stochastic samplers.

Images have the shape `(B, H, W, C)`, and log-SNRs are scalars. The shortest
sampler, Euler's method, is at the end of [the page on
sampling](../docs/sampling.md#writing-a-sampler).

`step` returns the images at the next level, the predicted clean images and, if
the method needs one, a memory. `initial_memory` makes the memory for the first
step. The loop is compiled together with the network, and `step` is traced once
for all steps. `is_first` may therefore be a tensor, so use `ops.where` instead
of `if`, and store nothing on `self`.

## The method

Without fresh noise a sampler solves the probability flow, an ordinary
differential equation. Let `l` be half the log-SNR, so that `alpha / sigma =
exp(l)`, and let `x(l)` be the predicted clean image along the solution. A step
from `l` to `l + h` changes the noisy image to

```
z_next = (sigma_next / sigma) z + sigma_next * integral of exp(l) x(l) dl
```

([Lu et al., 2022](https://arxiv.org/abs/2211.01095), proposition 4.1). Only the
change of `x` within the step is unknown. If `x` is assumed constant, the last
term is `alpha_next (1 - exp(-h)) x`, which gives DDIM. The two-step
Adams-Bashforth method extrapolates linearly from this prediction and the
previous one, and integrates the line:

```
last term = alpha_next ((1 - exp(-h)) x + (h - 1 + exp(-h)) slope)
slope = (x - previous_x) / (l - previous_l)
```

It takes one network evaluation per step. (DPM-Solver++ uses `h (1 - exp(-h)) /
2` instead of `h - 1 + exp(-h)`; both agree for small `h`.) The first step has
no previous prediction. With the usual ends of schedules, log-SNRs of -15 and
15, the last step is too long for an extrapolation. Both therefore use DDIM. The
error of one such step also decreases with the square of `h`, so the method
remains of second order.
"""


@keras.saving.register_keras_serializable("guides")
class AdamsBashforthSampler(ksd.samplers.Sampler):
    """Two-step Adams-Bashforth sampler; of order 1 it is DDIM."""

    def __init__(self, order=2):
        self.order = order

    def initial_memory(self, noise):
        return ops.zeros_like(noise)

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        h = 0.5 * (at.next_log_snr - at.log_snr)
        _, sigma = ksd.ops.alpha_sigma(at.log_snr)
        next_alpha, next_sigma = ksd.ops.alpha_sigma(at.next_log_snr)
        integral = -ops.expm1(-h) * clean
        if self.order == 2:
            is_end = ops.logical_or(at.is_first, at.is_last)
            before = 0.5 * (at.log_snr - at.level(-1))
            # Avoid a division by zero in the first step.
            before = ops.where(is_end, 1.0, before)
            slope = (clean - at.memory) / before
            slope = ops.where(is_end, 0.0, slope)
            integral = integral + (h + ops.expm1(-h)) * slope
        noisy = next_sigma / sigma * at.noisy_images + next_alpha * integral
        return noisy, clean, clean


"""
The memory is the predicted clean image. `order` is stored under the name of its
argument, so the configuration of the sampler follows from it. Samplers with
equal configurations share one compiled program.

## The check

A sampler with an error often still generates images, only slightly worse ones.
A case with a known solution reveals errors. Let the pixels of the data be
independent and normally distributed with mean `m` and standard deviation `s`.
At each noise level, noisy pixels are then normal with mean `alpha m` and
variance `v = alpha^2 s^2 + sigma^2`, and the ideal network predicts

```
E[x | z] = m + (alpha s^2 / v) (z - alpha m)
```

The flow maps each of these normal distributions to the next one. It preserves
the distance of a pixel from the mean in units of the standard deviation, which
gives the exact solution.
"""

MEAN, STD = 0.3, 0.4


def moments(log_snr):
    alpha, sigma = ksd.ops.alpha_sigma(log_snr)
    return alpha, alpha * MEAN, alpha**2 * STD**2 + sigma**2


def ideal_denoise(noisy_images, log_snr):
    log_snr = ksd.ops.expand_like(log_snr, noisy_images)
    alpha, mean, variance = moments(log_snr)
    return MEAN + alpha * STD**2 / variance * (noisy_images - mean)


noise = keras.random.normal((16, 4, 4, 1), seed=0)
_, first_mean, first_variance = moments(schedule(1.0))
_, last_mean, last_variance = moments(schedule(0.0))
ratio = ops.sqrt(last_variance / first_variance)
exact = last_mean + ratio * (noise - first_mean)

"""
Halving the step size divides the error by two for a method of first order, and
by four for a method of second order. The order is the slope of the error
against the number of steps in a logarithmic plot.
"""

samplers = {
    "DDIM": ksd.samplers.DDIMSampler(),
    "Heun": ksd.samplers.HeunSampler(),
    "DPM-Solver++": ksd.samplers.DPMSolverSampler(),
    "Adams-Bashforth": AdamsBashforthSampler(),
}
errors = {name: [] for name in samplers}
for name, sampler in samplers.items():
    for count in COUNTS:
        grid = ksd.samplers.log_snr_grid(schedule, count, "log_snr")
        drawn = sampler.sample(ideal_denoise, noise, grid)
        error = ops.sqrt(ops.mean(ops.square(drawn - exact)))
        errors[name].append(float(error))
    order = np.log2(errors[name][-2] / errors[name][-1])
    print(f"{name:16} order {order:.2f}, error {errors[name][-1]:.1e}")

grid = ksd.samplers.log_snr_grid(schedule, 8)
first, ddim = (
    each.sample(ideal_denoise, noise, grid)
    for each in (AdamsBashforthSampler(order=1), samplers["DDIM"])
)
difference = float(ops.max(ops.abs(first - ddim)))
print(f"order 1 differs from DDIM by {difference:.0e}")

"""
## Digits

A real network is not ideal, and its clean images are clipped to the range of
grey levels. The last check therefore generates images with the network of the
guide "Getting started".
"""

images, labels = ksd.data.load_digits(image_size=16, split="train")
backbone = ksd.models.UViTBackbone(
    image_shape=(16, 16, 1),
    channels=CHANNELS,
    blocks=BLOCKS,
    num_classes=10,
    embedding_dim=CHANNELS[-1],
    dropout=0.1,
    dropout_max_size=8,
)
model = ksd.models.DiffusionModel(backbone)
model.compile(
    ksd.optimizers.make_optimizer(learning_rate=1e-3, warmup_steps=50),
    sampler=AdamsBashforthSampler(),
)
batches = ksd.data.training_batches(
    ksd.data.ArraySource(images, labels), BATCH_SIZE
)
model.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=2)

"""
`generate` uses the sampler of `compile` or its argument `sampler`. One program
is compiled per sampler and number of steps. Without fresh noise, all numbers of
steps start from the same noise and converge to the same images.
"""

digits = [
    model.generate(
        labels=range(10), num_steps=count, guidance_scale=1.5, seed=0
    )
    for count in SAMPLING_STEPS
]
for count, each in zip(SAMPLING_STEPS, digits, strict=True):
    gap = np.abs(each.astype("float32") - digits[-1]).mean()
    print(f"{count} steps: {gap:.1f} grey levels from {SAMPLING_STEPS[-1]}")

"""
The sampler is part of the model's preset. This requires
`register_keras_serializable`, and a program that loads the preset must define
the class.
"""

model.save_to_preset("adams_bashforth_digits")
loaded = ksd.models.DiffusionModel.from_preset("adams_bashforth_digits")
print("the preset's sampler:", loaded.sampler)

"""
## The image
"""

figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4), width_ratios=(1, 1.5), layout="constrained"
)
for (name, values), marker in zip(errors.items(), "osv^", strict=True):
    left.loglog(COUNTS, values, marker=marker, label=name)
for name, order, style in (("DDIM", 1, "k:"), ("Heun", 2, "k--")):
    line = 1.5 * errors[name][0] * (np.array(COUNTS) / COUNTS[0]) ** -order
    left.loglog(COUNTS, line, style, lw=1, label=f"order {order}")
left.set(xlabel="steps", ylabel="error on the Gaussian")
left.set_xticks(COUNTS, COUNTS)
left.minorticks_off()
left.grid(alpha=0.3)
left.legend()
cells = np.pad(np.stack(digits)[..., 0], ((0, 0), (0, 0), (2, 2), (2, 2)))
rows = cells.transpose(0, 2, 1, 3).reshape(20 * len(digits), 20 * 10)
right.imshow(rows, cmap="gray")
right.set(xticks=[], title="Adams-Bashforth", ylabel="steps")
right.set_yticks(20 * np.arange(len(digits)) + 9.5, SAMPLING_STEPS)
figure.savefig("writing_a_sampler.png", dpi=80)

"""
The left half of `writing_a_sampler.png` shows that the error of the sampler
decreases with the square of the number of steps. The same holds for Heun, which
takes two evaluations per step, and for DPM-Solver++, which is more accurate
here. The right half shows digits generated with the sampler of this guide.
"""
