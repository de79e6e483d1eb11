"""Measure images against the number of network evaluations that draw them.

    KERAS_BACKEND=tensorflow python benchmarks/few_steps.py \
        --model emoji_teacher --student consistency=emoji --data emoji \
        --feature-weights inception2015_fid_fp32.npz --output runs/few \
        --plot docs/few_steps_emoji.png

The model draws with each sampler and each number of steps, with its own
guidance, so that a step costs two evaluations; each student, NAME=PRESET, draws
as its preset says. The prompts or classes are those of training images, chosen
at random, with which the drawn ones are compared by KID and FID; prompts, noise
and features of the real images are the same for all. A line is written to
`results.jsonl` for each point; points that it has already are kept.
"""

import argparse
import pathlib

import numpy as np
from results import Results

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models import Preset

SAMPLERS = {
    "DDIM": ksd.samplers.DDIMSampler(),
    "aDDIM": ksd.samplers.DDIMSampler(adjusted=True),
    "DDPM": ksd.samplers.DDPMSampler(),
    "DPM-Solver++": ksd.samplers.DPMSolverSampler(),
}
_SCORES = ("KID", "FID")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a preset with weights")
    parser.add_argument("--student", action="append", default=[])
    parser.add_argument("--data", required=True)
    parser.add_argument("--feature-weights", required=True)
    parser.add_argument("--evaluations", default="4,8,16,32,64")
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--num-images", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--plot", type=pathlib.Path)
    args = parser.parse_args()
    results = Results(args.output / "results.jsonl", "curve", "evaluations")
    measure = Measure(args)
    for key, model, options in points(args):
        if key not in results:
            results.add(key, measure(model, options))
    if args.plot:
        plot(results.rows, args.plot)


class Measure:
    """Draws images for the conditions of real ones, and compares them."""

    def __init__(self, args):
        size = Preset.open(args.model).backbone_config["image_shape"][:2]
        source = ksd.data.open_data(args.data, size)
        order = np.random.default_rng(0).permutation(len(source))
        chosen = [source[int(i)] for i in order[: args.num_images]]
        self.batch_size = args.batch_size
        self.conditions = {}
        if "captions" in chosen[0]:
            texts = [str(item["captions"]) for item in chosen]
            self.conditions = {"prompts": texts}
        elif "labels" in chosen[0]:
            labels = np.array([item["labels"] for item in chosen])
            self.conditions = {"labels": labels}
        self.features = ksd.metrics.InceptionFeatures(args.feature_weights)
        self.real = self.features(np.stack([x["images"] for x in chosen]))

    def __call__(self, model, options):
        images = model.generate(
            **self.conditions, seed=0, batch_size=self.batch_size, **options
        )
        found = self.features(images)
        kid, _ = ksd.metrics.kernel_distance(found, self.real)
        fid = ksd.metrics.frechet_distance(*map(gaussian, (found, self.real)))
        scores = {"KID": round(float(kid), 5), "FID": round(float(fid), 2)}
        return {**scores, "num_images": len(images)}


def gaussian(features):
    """The mean and the covariance of features."""
    statistics = ksd.metrics.FeatureStatistics(features.shape[1])
    statistics.add(features)
    return statistics


def points(args):
    """Yield the curve and evaluations of a point, the model and options."""
    for student in args.student:
        name, _, preset = student.partition("=")
        model = Preset.open(preset).load()
        yield (name, model.num_steps), model, {}
    model = Preset.open(args.model).load()
    cost = 1 if model.guidance_scale == 1.0 else 2
    for evaluations in map(int, args.evaluations.split(",")):
        for name in args.samplers.split(","):
            options = {
                "num_steps": evaluations // cost,
                "sampler": SAMPLERS[name],
            }
            yield (name, evaluations), model, options


def plot(rows, path):
    """Draw each score against the evaluations, a curve for each sampler."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    counts = sorted({row["evaluations"] for row in rows})
    for axes, score in zip(figure.subplots(1, 2), _SCORES, strict=True):
        for name in dict.fromkeys(row["curve"] for row in rows):
            points = sorted(
                (row["evaluations"], row[score])
                for row in rows
                if row["curve"] == name
            )
            style = {"marker": "o"} if name in SAMPLERS else {"marker": "*"}
            axes.plot(*zip(*points, strict=True), label=name, **style)
        axes.set(xscale="log", xlabel="network evaluations", ylabel=score)
        axes.set_xticks(counts, counts)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
