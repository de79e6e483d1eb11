"""
Title: Writing a sampler
Author: the keras_simple_diffusion authors
Date created: 2026/11/25
Last modified: 2026/11/25
Description: A sampler of one's own, checked against an exact solution.
Accelerator: None
"""

"""
A sampler turns noise into images: it goes down a grid of noise levels and
asks the network at each for the clean image. In this library it is a class
with one method. This guide writes a second-order sampler, measures its order on
data for which the exact answer is known, and draws digits with it.
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
## What a sampler is given

The levels are log-SNRs, from the noisy to the clean end of a schedule.
`spacing` says how they lie between: evenly in time, as in the papers, or in
log-SNR, or EDM's way.
"""

schedule = ksd.schedules.CosineSchedule(log_snr_min=-8.0, log_snr_max=8.0)
for spacing in ("time", "log_snr", "power"):
    grid = ksd.samplers.log_snr_grid(schedule, 4, spacing)
    print(f"{spacing:8}", ops.convert_to_numpy(grid).round(1))

"""
`Sampler.sample(denoise, noise, grid)` walks the grid. For each step it calls

```
step(denoise, at, draw_noise) -> (noisy_images, clean_images)
```

- `denoise(noisy_images, log_snr)` is the predicted clean image. Guidance and
  clipping are part of it, so a sampler has nothing to do with them.
- `at` is where the walk is: `noisy_images`, `log_snr`, `next_log_snr`; what the
  step before predicted and at which level, `previous_clean_images` and
  `previous_log_snr`; and `is_first`, `is_last`, `num_steps`.
- `draw_noise()` is fresh noise, for samplers that add any.

It returns the images at the next level and the clean images that were
predicted on the way. The loop is compiled with the network, and `step` is
traced once for all steps. So `is_first` may be a tensor, to be used with
`ops.where` instead of `if`, and nothing may be kept on `self`: what a step has
to remember comes in `at`.

## The method

Without fresh noise a sampler solves the probability flow, an ordinary
differential equation. Let `l` be half the log-SNR, so that
`alpha / sigma = exp(l)`, and `x(l)` the predicted clean image along the way.
Going from `l` to `l + h` the noisy image changes to

```
z_next = (sigma_next / sigma) z + sigma_next * integral of exp(l) x(l) dl
```

([Lu et al., 2022](https://arxiv.org/abs/2211.01095), proposition 4.1). All that
is unknown is how `x` changes within the step. Constant, it can be taken out of
the integral, and the last term is `alpha_next (1 - exp(-h)) x`: that is DDIM.
The two-step Adams-Bashforth method draws a line through this prediction and the
one before, and integrates that:

```
last term = alpha_next ((1 - exp(-h)) x + (h - 1 + exp(-h)) slope)
slope = (x - previous_x) / (l - previous_l)
```

It costs one network evaluation a step. (DPM-Solver++ has `h (1 - exp(-h)) / 2`
in place of `h - 1 + exp(-h)`; the two agree as `h` becomes small.) In the first
step there is no line yet, and with the schedules' usual ends at log-SNRs of -15
and 15 the last one is so long that a line would lead astray. Both are steps of
DDIM. The error of one such step falls with the square of `h` too, so the order
stays two.
"""


@keras.saving.register_keras_serializable("guides")
class AdamsBashforthSampler(ksd.samplers.Sampler):
    """Two-step Adams-Bashforth sampler; of order 1 it is DDIM."""

    def __init__(self, order=2):
        self.order = order

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        h = 0.5 * (at.next_log_snr - at.log_snr)
        _, sigma = ksd.ops.alpha_sigma(at.log_snr)
        next_alpha, next_sigma = ksd.ops.alpha_sigma(at.next_log_snr)
        integral = -ops.expm1(-h) * clean
        if self.order == 2:
            is_end = ops.logical_or(at.is_first, at.is_last)
            before = 0.5 * (at.log_snr - at.previous_log_snr)
            # In the first step `before` is 0, which must not be divided by.
            before = ops.where(is_end, 1.0, before)
            slope = (clean - at.previous_clean_images) / before
            slope = ops.where(is_end, 0.0, slope)
            integral = integral + (h + ops.expm1(-h)) * slope
        noisy = next_sigma / sigma * at.noisy_images + next_alpha * integral
        return noisy, clean

    def get_config(self):
        return {"order": self.order}


"""
`order` is a plain Python value and a part of `get_config`: it is fixed when the
program is compiled, and samplers that are configured alike share one.

## The check

A sampler with a mistake often still draws images, only somewhat worse ones. A
case with a known answer tells. Let the pixels of the data be independent normal
numbers of mean `m` and standard deviation `s`. Noisy ones at a level are normal
too, of mean `alpha m` and variance `v = alpha^2 s^2 + sigma^2`, and the ideal
network predicts

```
E[x | z] = m + (alpha s^2 / v) (z - alpha m)
```

The flow carries each normal distribution to the next one, so it keeps how many
standard deviations a pixel is away from the mean.
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
Halving the step must divide the error by two for a method of first order, and
by four for one of second order. The error's slope against the number of steps,
both in logarithms, is the order.
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

A network is not ideal, and its clean images are clipped to the range of grey
levels, so the last check is to draw with one. It is the one of the guide to
getting started.
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
`generate` has the sampler of `compile`, or takes one as an argument. Its
program is compiled for a sampler and a number of steps. Without fresh noise
every number of steps starts from the same noise and approaches the same
images.
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
The sampler is a part of the model's preset: that is what `get_config` and
`register_keras_serializable` are for. A program that loads the preset must have
defined the class.
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
`writing_a_sampler.png` shows that the error of the sampler of this guide falls
with the square of the number of steps, as for Heun, which costs two evaluations
a step, and DPM-Solver++, which is more accurate here, and beside it digits
drawn with it.
"""
