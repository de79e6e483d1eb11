#!/usr/bin/env bash
# BayesFlow 2.0.12: with "exploding" noise, samples lose the data's scale.
#
# `EDMNoiseSchedule(variance_type="exploding")` is the form of the EDM paper:
# z = x + sigma * noise, whose squared diffusion g^2 is d(sigma^2)/dt.
# `get_drift` returns that of the variance-preserving form for both, which is
# smaller by 1 + sigma^2: 6401 times at sigma = 80. The sampler's ODE then
# hardly moves where the noise is large. With the exact score of standard
# normal data it ends at a deviation of 48.5, or of 0.6 from a standard normal
# start, which is what `DiffusionModel` draws for both forms. The default,
# "preserving", is right.
#
# Guessed: a deviation of 1.0 for both.
#
# Expected output:
#   preserving: from 1.0 to 1.0
#   exploding: from 80.0 to 48.5
#   exploding: from 1.0 to 0.6
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q bayesflow==2.0.12 keras==3.15.1 jax==0.10.2 \
    numpy==2.4.6
cat > "$place/run.py" <<'END'
import numpy as np
from bayesflow.networks.inference.diffusion.schedules import EDMNoiseSchedule

STEPS = 5000


def deviation(variance_type, start=None):
    """Integrate dz/dt = f - g^2 * score / 2 from t = 1 to 0, as BayesFlow does.

    The exact score of Gaussian data keeps z Gaussian, so that its deviation,
    one number, is followed. By default it starts with that of the schedule.
    """
    schedule = EDMNoiseSchedule(variance_type=variance_type)
    time = np.linspace(1, 0, STEPS + 1, dtype="float32")[:-1]
    log_snr = schedule.get_log_snr(time, training=False)
    drift, diffusion = schedule.get_drift(log_snr, x=1.0, training=False)
    alpha, sigma = schedule.get_alpha_sigma(log_snr)
    drift, diffusion, alpha, sigma = (
        np.broadcast_to(np.asarray(value, "float64"), (STEPS,))
        for value in (drift, diffusion, alpha, sigma)
    )
    variance = alpha**2 + sigma**2
    z = first = start or np.sqrt(variance[0])
    for f, g_squared, total in zip(drift, diffusion, variance):
        score = -z / total
        z = z - (f * z - g_squared * score / 2) / STEPS
    print(f"{variance_type}: from {first:.1f} to {z:.1f}")
    return round(float(z), 1)


found = [
    deviation("preserving"),
    deviation("exploding"),
    deviation("exploding", start=1.0),
]
assert found == [1.0, 48.5, 0.6], "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py"
