"""Each built-in configuration, a tenth as wide, learns 16 images by heart.

The twin has the configuration's topology, schedule and loss, at 64 pixels,
without dropout. It trains on the same 16 photographs at every step; then it
denoises them at three noise levels. What there is to beat is the best linear
denoiser, a Wiener filter with the spectra of the other photographs: where
nearly nothing of an image is left in the noise, only a network that knows
the image does better. Training stops when it does so by a margin at the
noisiest level.

    python benchmarks/overfit_twins.py --images imagenette_64.zip \
        --output docs/overfit --backend tensorflow

One sheet a configuration: the originals, then for each log-SNR the denoised
images. One JSON line a configuration, appended, so that an interrupted run
goes on with the next; what was not learned is tried again.
"""

import argparse
import json
import os
import pathlib
import sys
import time

TEXT_LENGTH = 8
LOG_SNRS = (2.0, -2.0, -5.0)
INTERVAL = 50
_SMALL = {  # As they are.
    "emoji",
    "emoji_teacher",
    "jit_mini_64",
    "jit_small_64",
    "uvit_caltech_64",
    "uvit_digits_16",
    "uvit_emoji_64",
    "uvit_small_64",
}
# Of the error of the Wiener filter, at the noisiest level.
LEARNED = 0.85


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", help="comma-separated; default: all")
    return parser.parse_args()


args = arguments()
os.environ["KERAS_BACKEND"] = args.backend

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402
from PIL import Image  # noqa: E402

import keras_simple_diffusion as ksd  # noqa: E402
from keras_simple_diffusion.data.loading import load_images  # noqa: E402
from keras_simple_diffusion.utils import presets  # noqa: E402


def tenth(width, multiple=4):
    return max(multiple, round(width / 10 / multiple) * multiple)


def twin_of(name):
    """Backbone, schedule, loss and prediction type of a twin."""
    preset = ksd.models.Preset.open(name)
    config = preset.backbone_config
    height, width, _ = config["image_shape"]
    config["image_shape"] = (64, 64 if height == width else 96, 3)
    if "patch_size" in config:
        narrow_transformer(config)
    else:
        narrow_levels(config)
    config["dropout"] = 0.0
    if config["num_classes"] is not None:
        config["num_classes"] = 16
    if config.get("context_dim"):
        config["context_dim"] = tenth(config["context_dim"])
    backbone = preset.backbone_class(**config)
    task = preset.task_config
    schedule = ksd.schedules.InterpolatedCosineSchedule(64, 32, 64)
    if "schedule" in task:
        serialized = task["schedule"]
        settings = serialized["config"]
        if serialized["class_name"] == "NormalSchedule":
            # The noise stays that of the large images.
            settings["noise_size"] *= 64 / settings["image_size"]
        settings["image_size"] = 64
        if "noise_size_high" in settings:
            settings["noise_size_high"] = 64
        schedule = keras.saving.deserialize_keras_object(serialized)
    loss = ksd.losses.DiffusionLoss("v")
    if "loss" in task:
        loss = keras.saving.deserialize_keras_object(task["loss"])
    return backbone, schedule, loss, task.get("prediction_type", "v")


def narrow_transformer(config):
    """Make a transformer a tenth as wide, with patches of 8 pixels."""
    config["patch_size"] = 8
    heads = config["num_heads"]
    config["width"] = tenth(config["width"], 4 * heads)
    config["bottleneck_dim"] = tenth(config["bottleneck_dim"])


def narrow_levels(config):
    """Make the levels of a U-Net or U-ViT a tenth as wide."""
    # The first level passes the noise on, so that it can be told from the
    # image: it needs more features than the numbers of its pixels.
    factor = config["downsampling_factor"] if "downsampling" in config else 1
    first, *widths = map(tenth, config["channels"])
    config["channels"] = [max(first, 24, 4 * factor**2), *widths]
    config["embedding_dim"] = tenth(config["embedding_dim"])


def conditions_of(backbone, count):
    """Something that tells the images apart, for each condition."""
    rng = np.random.default_rng(0)
    conditions = {}
    if backbone.num_classes is not None:
        conditions["labels"] = np.arange(count, dtype="int32")
    if backbone.context_dim is not None:
        shape = (count, TEXT_LENGTH, backbone.context_dim)
        conditions["context"] = rng.normal(size=shape).astype("float32")
        lengths = rng.integers(2, TEXT_LENGTH + 1, count)
        mask = np.arange(TEXT_LENGTH) < lengths[:, None]
        conditions["context_mask"] = mask.astype("int32")
    if backbone.portrait_flag:
        conditions["portrait"] = np.arange(count, dtype="int32") % 2
    return conditions


class Denoiser(keras.Model):
    """Any backbone under `fit`, whatever its conditions are."""

    def __init__(self, backbone, schedule, loss, prediction_type):
        super().__init__()
        self.prediction_type = prediction_type
        self.backbone = backbone
        self.schedule = schedule
        self.diffusion_loss = loss
        self.seed = keras.random.SeedGenerator(args.seed)

    def call(self, inputs, training=False):
        inputs = dict(inputs)
        images = inputs.pop("images")
        t = keras.random.uniform((ops.shape(images)[0],), seed=self.seed)
        noise = keras.random.normal(ops.shape(images), seed=self.seed)
        log_snr = self.schedule(t)
        inputs["log_snr"] = log_snr
        inputs["noisy_images"] = ksd.ops.diffuse(images, noise, log_snr)
        return {
            "prediction": self.backbone(inputs, training=training),
            "target": ksd.ops.make_target(
                images, noise, log_snr, self.prediction_type
            ),
            "log_snr": log_snr,
            "log_snr_derivative": self.schedule.derivative(t),
        }

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        losses = self.diffusion_loss(
            **y_pred, prediction_type=self.prediction_type
        )
        return ops.mean(losses)


def denoise(model, images, conditions, log_snr):
    """Denoise images with noise of one level by the backbone of a model."""
    noise = np.random.default_rng(1).normal(size=images.shape)
    levels = np.full(len(images), log_snr, "float32")
    noisy = ksd.ops.diffuse(images, noise.astype("float32"), levels)
    prediction = model.backbone.predict(
        {"noisy_images": noisy, "log_snr": levels, **conditions},
        batch_size=len(images),
        verbose=0,
    )
    clean = ksd.ops.convert_prediction(
        prediction, noisy, levels, model.prediction_type, "x"
    )
    return ops.convert_to_numpy(clean)


def choose_images(shape):
    """The 16 images, and others of the same kind."""
    height, width, _ = shape
    images = load_images(args.images, (64, 64)).images
    if width != height:  # Cut to the shape, then enlarge.
        rows = round(64 * height / width)
        top = (64 - rows) // 2
        images = images[:: len(images) // 1000]
        images = np.stack(
            [
                Image.fromarray(p[top : top + rows]).resize((width, height))
                for p in images
            ]
        )
    images = images.astype("float32") / 127.5 - 1.0
    chosen = np.arange(0, len(images), len(images) // 16)[:16]
    return images[chosen], np.delete(images, chosen, axis=0)[::5]


def wiener_error(images, others, log_snr):
    """Root mean square error of the best linear denoiser.

    The images' covariance is taken as stationary: one 3 x 3 matrix of the
    colours for each frequency.
    """

    def transform(x):
        return np.fft.fft2(x, axes=(1, 2), norm="ortho")

    mean = others.mean(0)
    spectrum = transform(others - mean)
    covariance = np.einsum("nijc,nijd->ijcd", spectrum, spectrum.conj())
    covariance /= len(others)
    variance = np.exp(-log_snr)  # Of the noise, beside a signal of one.
    total = covariance + variance * np.eye(3)
    filters = covariance @ np.linalg.inv(total)
    noise = np.random.default_rng(1).normal(size=images.shape)
    clean = transform(images - mean)
    noisy = clean + np.sqrt(variance) * transform(noise)
    error = np.einsum("ijcd,nijd->nijc", filters, noisy) - clean
    return float(np.sqrt((np.abs(error) ** 2).mean()))


def sheet(rows):
    rows = [np.concatenate(list(row), axis=1) for row in rows]
    pixels = np.clip((np.concatenate(rows) + 1.0) * 127.5, 0, 255)
    return Image.fromarray(pixels.round().astype("uint8"))


def run(name, output):
    keras.utils.set_random_seed(args.seed)
    backbone, schedule, loss, prediction_type = twin_of(name)
    images, others = choose_images(backbone.image_shape)
    limits = {level: wiener_error(images, others, level) for level in LOG_SNRS}
    conditions = conditions_of(backbone, len(images))
    model = Denoiser(backbone, schedule, loss, prediction_type)
    optimizer = keras.optimizers.Adam(
        ksd.optimizers.WarmUp(args.learning_rate, 30),
        beta_2=0.99,
        global_clipnorm=1.0,
    )
    jit_compile = args.backend == "jax"
    model.compile(optimizer, jit_compile=jit_compile)
    start = time.perf_counter()
    # Every image once or more a step, each at a noise level of its own.
    data = {"images": images, **conditions}
    repeats = args.batch_size // len(images) * INTERVAL
    data = {k: np.concatenate([v] * repeats) for k, v in data.items()}
    start = time.perf_counter()
    for steps in range(INTERVAL, args.steps + 1, INTERVAL):
        model.fit(data, batch_size=args.batch_size, shuffle=False, verbose=0)
        errors = {}
        rows = [images]
        for log_snr in LOG_SNRS:
            clean = denoise(model, images, conditions, log_snr)
            rows.append(clean)
            errors[log_snr] = float(np.sqrt(((clean - images) ** 2).mean()))
        print(f"{name} {steps}: {errors}", file=sys.stderr, flush=True)
        noisiest = LOG_SNRS[-1]
        learned = errors[noisiest] < LEARNED * limits[noisiest]
        if learned:
            break
    seconds = time.perf_counter() - start
    sheet(rows).save(output / f"{name}-{args.backend}.jpg", quality=85)
    return {
        "name": name,
        "backend": args.backend,
        "parameters": backbone.count_params(),
        "steps": steps,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "learned": learned,
        "seconds": round(seconds, 1),
        "rmse": {str(k): round(v, 4) for k, v in errors.items()},
        "wiener": {str(k): round(v, 4) for k, v in limits.items()},
        "keras": keras.__version__,
    }


def main():
    output = pathlib.Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.jsonl"
    done = set()
    if results.exists():
        lines = map(json.loads, results.read_text().splitlines())
        done = {
            (line["name"], line["backend"]) for line in lines if line["learned"]
        }
    names = presets.builtin_presets()
    if args.names:
        names = args.names.split(",")
    for name in names:
        if (name, args.backend) in done or name in _SMALL:
            continue
        line = json.dumps(run(name, output))
        print(line, flush=True)
        with results.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
