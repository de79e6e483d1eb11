#!/usr/bin/env bash
# torchmetrics 1.9.0: each progress value of FID or KID doubles the real data.
#
# `metric(images, real=False)` adds a batch and returns the value of that batch,
# which a training loop logs. For this the metric is reset, updated, computed,
# and added to its former state. With `reset_real_features=False`, which keeps
# the features of real images as the data never changes, the reset leaves them
# in place, so that they are added to themselves: after 10 batches each counts
# 1024 times. FID hardly changes. KID stores each copy, meets equal images where
# it assumes different ones, and comes out too large. Nothing is said.
#
# Guessed: the value of the ten batches, as `update` and `compute` give it.
#
# Expected output (200 real images, ten batches of generated ones):
#   FID by update: 200 real images
#   FID by calls: 204800 real images
#   KID by update: 200 real images, 0.185
#   KID by calls: 204800 real images, 0.252
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
cat > "$place/run.py" <<'END'
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance


class Pixels(torch.nn.Module):
    """Four pixels in place of the features of Inception, to be small."""

    num_features = 4

    def forward(self, images):
        return images.reshape(len(images), -1).float()


generator = torch.Generator().manual_seed(0)
real = torch.randn(200, 1, 2, 2, generator=generator)
generated = 1.2 * torch.randn(600, 1, 2, 2, generator=generator)


def measure(metric, by_calls):
    torch.manual_seed(0)
    metric.update(real, real=True)
    for batch in generated.split(60):
        if by_calls:
            metric(batch, real=False)
        else:
            metric.update(batch, real=False)
    return metric


images, values = [], []
for by_calls in (False, True):
    how = "calls" if by_calls else "update"
    fid = FrechetInceptionDistance(Pixels(), reset_real_features=False)
    images.append(int(measure(fid, by_calls).real_features_num_samples))
    print(f"FID by {how}: {images[-1]} real images")
for by_calls in (False, True):
    how = "calls" if by_calls else "update"
    kid = KernelInceptionDistance(
        Pixels(), subsets=1000, subset_size=50, reset_real_features=False
    )
    measure(kid, by_calls)
    images.append(sum(map(len, kid.real_features)))
    torch.manual_seed(0)
    values.append(float(kid.compute()[0]))
    print(f"KID by {how}: {images[-1]} real images, {values[-1]:.3f}")
assert images == [200, 204800] * 2, "the behaviour has changed"
assert values[1] > values[0] * 1.2, "the behaviour has changed"
END
PYTHONWARNINGS=ignore "$place/venv/bin/python" "$place/run.py"
