"""Time of a training step of each network of the ablations, in turn.

    KERAS_BACKEND=torch python benchmarks/ablation_costs.py \
        --output docs/ablations_costs.json

All models are in one process and take their steps in turn; each is compared
with the base of its size, by the ratio of the median times.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np
import turns
from ablation_cells import CELLS
from ablation_cells import TABLES
from ablations import RECIPE


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    names = {
        cell
        for table in ("blocks", "input", "multiscale", "network")
        for _, cell, _ in TABLES[table].rows
    }
    rng = np.random.default_rng(0)
    models, seconds = {}, {name: [] for name in sorted(names)}
    for name in seconds:
        models[name] = CELLS[name].make_model()
        models[name].compile(optimizer=RECIPE.make_optimizer())
    for round_index in range(-2, args.rounds):
        for name, model in models.items():
            shape = (RECIPE.batch_size, *model.backbone.image_shape)
            images = rng.integers(0, 256, shape).astype("uint8")
            started = time.perf_counter()
            float(model.train_on_batch(images))
            if round_index >= 0:
                seconds[name].append(time.perf_counter() - started)
    found = {}
    for name, values in seconds.items():
        base = seconds[f"base_{CELLS[name].image_size}"]
        found[name] = {
            "milliseconds": round(1000 * float(np.median(values)), 1),
            **turns.ratio(np.array(values), np.array(base)),
        }
        print(name, found[name], flush=True)
    facts = {
        "backend": keras.config.backend(),
        "keras": keras.__version__,
        "rounds": args.rounds,
        "cells": found,
    }
    args.output.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
