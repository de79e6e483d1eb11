"""Measure the time of sampling beyond that of the network.

    KERAS_BACKEND=jax python benchmarks/sampler_cost.py

In turn in one process, for one image: 32 evaluations of the compiled
network; `generate` with 32 steps, one compiled program; a Python loop over
compiled steps; `generate` with guidance, and with guidance in half of the
steps. Ratios are those of the median times to the network's.
"""

import argparse
import json
import platform
import time

import keras
import numpy as np
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.models.cost import count_macs

STEPS = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=448)
    args = parser.parse_args()
    backbone = ksd.models.UViTBackbone(
        (64, 64, 3),
        (48, 96, args.width),
        (2, 2, 6),
        num_classes=10,
        embedding_dim=256,
    )
    sampler = ksd.samplers.DDIMSampler()
    model = ksd.models.DiffusionModel(backbone, sampler=sampler)
    shape = (1, *backbone.image_shape)
    noise = np.random.default_rng(0).normal(size=shape).astype("float32")
    grid = ksd.samplers.log_snr_grid(model.schedule, STEPS)
    label = ops.convert_to_tensor(np.array([3], "int32"))

    def predict(noisy_images, log_snr):
        inputs = {"noisy_images": noisy_images, "log_snr": log_snr}
        return backbone({**inputs, "labels": label}, training=False)

    def step(noisy_images, log_snr, next_log_snr):
        def denoise(noisy_images, log_snr):
            v = predict(noisy_images, log_snr)
            x = ksd.ops.convert_prediction(v, noisy_images, log_snr, "v", "x")
            return ops.clip(x, -1.0, 1.0)

        grid = ops.concatenate([log_snr, next_log_snr])
        return sampler.sample(denoise, noisy_images, grid)

    variables = backbone.variables
    network = compile_function(predict, variables, False)
    one_step = compile_function(step, variables, False)
    levels = [ops.reshape(level, (1,)) for level in ops.unstack(grid)]
    tensor = ops.convert_to_tensor(noise)

    def evaluate():
        for level in levels[:-1]:
            output = network(tensor, level)
        return output

    def loop():
        x = tensor
        for level, following in zip(levels, levels[1:], strict=False):
            x = one_step(x, level, following)
        return x

    def generate(**options):
        options = {"guidance_scale": 1.0, **options}
        return model.generate(
            labels=[3], num_steps=STEPS, noise=noise, seed=0, **options
        )

    middle = (float(ops.convert_to_numpy(grid)[STEPS // 2]) + 1e-3, 99.0)
    contenders = {
        "network": evaluate,
        "one program": generate,
        "Python loop": loop,
        "guided": lambda: generate(guidance_scale=2.0),
        "guided in half of the steps": lambda: generate(
            guidance_scale=2.0, guidance_interval=middle
        ),
    }
    seconds = {name: [] for name in contenders}
    for round_index in range(args.rounds + 1):
        for name, contender in contenders.items():
            start = time.perf_counter()
            ops.convert_to_numpy(contender())
            if round_index:
                seconds[name].append(time.perf_counter() - start)
    base = np.median(seconds["network"])
    report = {
        "backend": keras.config.backend(),
        "gmacs": round(sum(count_macs(backbone).values()) / 1e9, 2),
        "network_seconds": round(float(base), 3),
        "ratios": {
            name: round(float(np.median(values) / base), 3)
            for name, values in seconds.items()
        },
        "rounds": args.rounds,
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
