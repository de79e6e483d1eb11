#!/usr/bin/env bash
# diffusers 0.42.1: `EMAModel(use_ema_warmup=False)` warms up nonetheless.
#
# The decay at step n is then at most (n - 1) / (n + 9), whatever `decay` says:
# 0.9999 is reached at step 89,991. Until then the average covers about the last
# tenth of the training, and decays of 0.999 and 0.9999 give the same weights
# during the first 8,991 steps. `use_ema_warmup=True` is another warm-up, to
# 1 - n^(-2/3). `min_decay` turns both off, but for the first step, which copies
# the weights.
#
# A weight that equals the number of the step shows the mean step of an average.
#
# Guessed: without warm-up each step has the decay that was given.
#
# Expected output:
#   1000 steps, decay 0.9999, no warm-up: mean step 900, last decay 0.991080
#   1000 steps, decay 0.999, no warm-up: mean step 900, last decay 0.991080
#   1000 steps, decay 0.9999, warm-up: mean step 907, last decay 0.990000
#   1000 steps, decay 0.9999, at least 0.9999: mean step 49, last decay 0.999900
#   steps to a decay of 0.9999 without warm-up: 89,991
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
cat > "$place/run.py" <<'END'
import torch
from diffusers.training_utils import EMAModel


def average(steps=1000, **options):
    weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    mean = EMAModel([weight], **options)
    for step in range(1, steps + 1):
        weight.data.fill_(step)
        mean.step([weight])
    return float(mean.shadow_params[0]), mean.cur_decay_value


found = []
for text, options in (
    ("decay 0.9999, no warm-up", {"decay": 0.9999}),
    ("decay 0.999, no warm-up", {"decay": 0.999}),
    ("decay 0.9999, warm-up", {"decay": 0.9999, "use_ema_warmup": True}),
    ("decay 0.9999, at least 0.9999", {"decay": 0.9999, "min_decay": 0.9999}),
):
    found.append(average(**options))
    mean, decay = found[-1]
    print(f"1000 steps, {text}: mean step {mean:.0f}, last decay {decay:.6f}")

model = EMAModel([torch.nn.Parameter(torch.zeros(()))])
step = next(n for n in range(1, 200_000) if model.get_decay(n) >= 0.9999)
print(f"steps to a decay of 0.9999 without warm-up: {step:,}")
assert [round(mean) for mean, _ in found] == [900, 900, 907, 49]
assert [round(decay, 5) for _, decay in found] == [0.99108, 0.99108, 0.99, 0.9999]
assert step == 89_991
END
cd "$place"
venv/bin/python run.py 2>/dev/null
