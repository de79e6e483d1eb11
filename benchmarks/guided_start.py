"""Measure guidance away from the start of a finetuning, by its scale.

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch python benchmarks/guided_start.py \
        --data ../shared/data --work runs/guided --evaluate-on tensorflow

`photos_64` is finetuned on the faces of the race (`photographs.py`) for some
minutes of one core. The model then generates 300 images at each scale, with 24
network evaluations an image: in 24 steps without guidance, in 12 with it. The
table has FID and KID, the Fréchet distance of another network (EfficientNet),
precision, recall and coverage against held-out photographs, and the share of
the images that are nearer to a training photograph than all held-out ones.
"""

import argparse
import pathlib

import measured
import numpy as np
import photographs
from racers import STEPS
from racers import library_finetuned

from keras_simple_diffusion.utils.sheets import show

SCALES = (1.0, 2.0, 1.5, 3.0)
NUM_IMAGES = 300
EFFICIENTNET = "efficientnet_lite0_imagenet_fp16.npz"
METRICS = "fid,kid,fd_efficientnet,precision_recall,density_coverage,nearest"
COLUMNS = {
    "FID": ("fid", "{:.1f}"),
    "FD EfficientNet": ("fd_efficientnet", "{:.1f}"),
    "KID": ("kid", "{:.3f}"),
    "precision": ("precision", "{:.2f}"),
    "recall": ("recall", "{:.2f}"),
    "coverage": ("coverage", "{:.2f}"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--photographs", choices=photographs.SETS, default="faces"
    )
    parser.add_argument("--evaluate-on", help="another backend for that")
    parser.add_argument(
        "--sheet", type=pathlib.Path, help="of two rows of images a scale"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data = photographs.choose(args.data, args.work, args.photographs)
    racer = library_finetuned.make(
        photographs.read(data, 64), 8e-4, args.seed, "guided"
    )
    racer.train(60 * args.minutes)
    rows = [["scale", "steps", *COLUMNS, "copies"]]
    for scale in args.scales:
        steps = STEPS // (1 + (scale != 1.0))
        path = args.work / f"guided-{scale:g}.zip"
        drawn = racer.draw(NUM_IMAGES, 0, guidance_scale=scale, steps=steps)
        measured.write_images(drawn, path)
        show(drawn[:48], columns=12).save(path.with_suffix(".png"))
        report = measured.evaluate(
            path,
            data,
            args.data / measured.INCEPTION,
            METRICS,
            args.evaluate_on,
            ["--efficientnet", args.data / EFFICIENTNET],
        )
        (scores,) = report["results"]
        cells = [
            form.format(scores["scores"]["test"][name])
            for name, form in COLUMNS.values()
        ]
        copies = scores["nearest"]["scores"]["generated"]["memorized"]
        rows.append([f"{scale:g}", f"{steps}", *cells, f"{copies:.2f}"])
        print(f"scale {scale:g}: {' '.join(cells)}", flush=True)
    rows.insert(1, ["---"] * len(rows[0]))
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    if args.sheet:
        draw_sheet(args)


def draw_sheet(args):
    """Write a sheet of the first images of each scale, by rising scale."""
    scales = sorted(args.scales)
    drawn = [
        measured.read_images(args.work / f"guided-{scale:g}.zip", 24)
        for scale in scales
    ]
    names = [f"scale {scale:g}" for scale in scales for _ in range(2)]
    sheet = show(np.concatenate(drawn), columns=12, row_names=names)
    sheet.save(args.sheet)


if __name__ == "__main__":
    main()
