#!/usr/bin/env bash
# diffusers 0.42.1: 61 "trailing" steps are 62, and the last is at timestep -1.
#
# `timestep_spacing="trailing"` counts down from 1000 by 1000 / n in floating
# point. For 62 of the numbers n from 1 to 1000 (61, 103, 121, 122, 201, ...)
# rounding leaves one more timestep, -1. DDIM looks up its noise level with the
# index -1, which is the *last* of the table: the nearly clean image is taken
# for pure noise. A network that answers "there is no noise left" gets its
# image multiplied by 157; with zero terminal SNR the image becomes infinite.
# The other schedulers with that spacing (DDPM, Euler, DPM-Solver, UniPC, ...)
# have the same extra timestep, and the network is run at -1.
#
# Guessed: n timesteps within 0 to 999 for each n.
#
# Expected output:
#   62 of 1000 numbers of steps give one more: 61, 103, 121, 122, 201, ...
#   60 steps: 60 timesteps, the last at 16 scales by 1.0
#   61 steps: 62 timesteps, the last at -1 scales by 157.4
#   61 steps, zero terminal SNR: 62 timesteps, the last at -1 scales by inf
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
cat > "$place/run.py" <<'END'
import torch
from diffusers import DDIMScheduler


def trailing(steps, zero_snr=False):
    scheduler = DDIMScheduler(
        timestep_spacing="trailing",
        rescale_betas_zero_snr=zero_snr,
        clip_sample=False,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def last_step(steps, zero_snr=False):
    scheduler = trailing(steps, zero_snr)
    time = scheduler.timesteps[-1]
    image = torch.ones(1, 1, 2, 2)
    no_noise = torch.zeros_like(image)
    scale = float(scheduler.step(no_noise, time, image).prev_sample.max())
    print(
        f"{steps} steps{', zero terminal SNR' if zero_snr else ''}: "
        f"{len(scheduler.timesteps)} timesteps, the last at {int(time)} "
        f"scales by {scale:.1f}"
    )
    return len(scheduler.timesteps), int(time), round(scale, 1)


longer = [n for n in range(1, 1001) if len(trailing(n).timesteps) == n + 1]
print(
    f"{len(longer)} of 1000 numbers of steps give one more: "
    f"{', '.join(map(str, longer[:5]))}, ..."
)
found = [last_step(60), last_step(61), last_step(61, zero_snr=True)]
assert len(longer) == 62, "the behaviour has changed"
assert found == [
    (60, 16, 1.0),
    (62, -1, 157.4),
    (62, -1, float("inf")),
], "the behaviour has changed"
END
"$place/venv/bin/python" "$place/run.py"
