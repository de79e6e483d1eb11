#!/usr/bin/env bash
# diffusers 0.42.1: `add_noise` of four schedulers is back to front.
#
# `add_noise(images, noise, timesteps)` is what a training loop calls with
# random timesteps. On a new DPMSolverMultistep, DPMSolverSinglestep, DEIS or
# UniPC scheduler the table of noise levels rises while that of timesteps
# falls: timestep 900 gets the noise of 99. After a `set_timesteps` for
# sampling (a preview, say) the two agree, but each timestep that the sampler
# does not visit gets the noise of its last, least noisy step. Either way
# nothing is said. DDPM and DDIM are right before and after; Euler is right
# before, and raises an IndexError after.
#
# Guessed: the right noise before and after, or that of the nearest step.
#
# Expected output (deviations of the noise at timesteps 900, 750 and 450):
#   DDPMScheduler: [1.0, 0.998, 0.935], then [1.0, 0.998, 0.935]
#   DPMSolverMultistepScheduler: [0.321, 0.69, 0.977], then [0.324, 0.324, 0.324]
#   DPMSolverSinglestepScheduler: [0.321, 0.69, 0.977], then [0.324, 0.324, 0.324]
#   DEISMultistepScheduler: [0.321, 0.69, 0.977], then [0.324, 0.324, 0.324]
#   UniPCMultistepScheduler: [0.321, 0.69, 0.977], then [0.324, 0.324, 0.324]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
cat > "$place/run.py" <<'END'
import diffusers
import torch


def deviations(scheduler):
    image = torch.zeros(1, 1, 2, 2)
    noise = torch.ones_like(image)
    return [
        round(
            float(scheduler.add_noise(image, noise, torch.tensor([t])).mean()),
            3,
        )
        for t in (900, 750, 450)
    ]


found = {}
for name in (
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
):
    scheduler = getattr(diffusers, name)()
    before = deviations(scheduler)
    scheduler.set_timesteps(10)
    after = deviations(scheduler)
    print(f"{name}: {before}, then {after}")
    found[name] = before, after
right = [1.0, 0.998, 0.935]
assert found.pop("DDPMScheduler") == (right, right), "the behaviour has changed"
assert all(
    before == [0.321, 0.69, 0.977] and after == [0.324, 0.324, 0.324]
    for before, after in found.values()
), "the behaviour has changed"
END
"$place/venv/bin/python" "$place/run.py"
