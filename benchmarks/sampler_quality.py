"""Quality of the digits against the cost of drawing them.

    python benchmarks/sampler_quality.py --model runs/digits

Each sampler draws the same digits with 4 to 256 network evaluations; then the
papers' sampler draws them with several strengths of guidance, everywhere and
within an interval of log-SNR. Two plots go to `docs/`, one JSON line a point to
the results, from which an interrupted run goes on.
"""

import argparse
import pathlib

import numpy as np
from digits_reader import DigitsReader
from matplotlib import figure
from results import Results

import keras_simple_diffusion as ksd

EVALUATIONS = (4, 8, 16, 32, 64, 256)
SAMPLERS = {
    "DDPM": ksd.samplers.DDPMSampler(),
    "DDIM": ksd.samplers.DDIMSampler(),
    "aDDIM": ksd.samplers.DDIMSampler(adjusted=True),
    "Heun": ksd.samplers.HeunSampler(),
    "DPM-Solver++ 2M": ksd.samplers.DPMSolverSampler(),
    "DPM-Solver++ 2M SDE": ksd.samplers.DPMSolverSampler(stochastic=True),
}
GUIDANCE = (1.0, 1.5, 2.0, 4.0, 8.0)
INTERVALS = {"everywhere": None, "log-SNR in [-4, 2]": (-4.0, 2.0)}


def points():
    """List the points: curve, position on the axis, arguments of `generate`."""
    for name, sampler in SAMPLERS.items():
        per_step = 2 if name == "Heun" else 1
        for count in EVALUATIONS:
            yield (
                "sampler",
                name,
                count,
                {
                    "sampler": sampler,
                    "num_steps": count // per_step,
                },
            )
    for name, interval in INTERVALS.items():
        for scale in GUIDANCE:
            yield (
                "guidance",
                name,
                scale,
                {
                    "guidance_scale": scale,
                    "guidance_interval": interval,
                    "num_steps": 32,
                },
            )


def draw_curves(axes, lines, kind, measure, real):
    for name in dict.fromkeys(x["name"] for x in lines if x["kind"] == kind):
        chosen = [x for x in lines if (x["kind"], x["name"]) == (kind, name)]
        axes.plot(
            [x["x"] for x in chosen],
            [x["measures"][measure][0] for x in chosen],
            marker="o",
            label=name,
        )
    axes.axhline(real, color="grey", linestyle=":", label="real digits")
    axes.set(ylabel=measure, xscale="log")
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def plot(lines, folder):
    real = {k: v[1] for k, v in lines[0]["measures"].items()}
    accuracy, _, spread, frechet = real
    sheet = figure.Figure(figsize=(10, 4), layout="tight")
    left, right = sheet.subplots(1, 2)
    draw_curves(left, lines, "sampler", frechet, real[frechet])
    draw_curves(right, lines, "sampler", accuracy, real[accuracy])
    left.set(yscale="log", ylim=(0.2, 4.5), yticks=(0.25, 0.5, 1, 2, 4))
    left.set_yticklabels((0.25, 0.5, 1, 2, 4))
    left.minorticks_off()
    for axes in (left, right):
        axes.set(xlabel="network evaluations", xticks=EVALUATIONS)
        axes.set_xticklabels(EVALUATIONS)
    left.legend(fontsize=8)
    sheet.savefig(folder / "sampler_quality.png", dpi=110)
    sheet = figure.Figure(figsize=(10, 4), layout="tight")
    left, right = sheet.subplots(1, 2)
    draw_curves(left, lines, "guidance", accuracy, real[accuracy])
    draw_curves(right, lines, "guidance", spread, real[spread])
    for axes in (left, right):
        axes.set(xlabel="guidance scale", xticks=GUIDANCE)
        axes.set_xticklabels(GUIDANCE)
    left.legend(fontsize=8)
    sheet.savefig(folder / "guidance_quality.png", dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--results", default="sampler_quality.jsonl")
    parser.add_argument("--output", type=pathlib.Path, default="docs")
    args = parser.parse_args()
    model = ksd.models.DiffusionModel.from_preset(args.model)
    reader = DigitsReader(model.backbone.image_shape[0])
    labels = np.repeat(np.arange(10), args.per_class)
    results = Results(pathlib.Path(args.results), "kind", "name", "x")
    for *key, options in points():
        if tuple(key) in results:
            continue
        images = model.generate(
            labels=labels, seed=0, batch_size=100, **options
        )
        measures = reader.measure(images, labels)
        results.add(key, {"measures": measures, "num_images": len(images)})
    plot(results.rows, args.output)


if __name__ == "__main__":
    main()
