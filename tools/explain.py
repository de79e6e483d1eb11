"""Draw the images that explain, into `docs/explain_NAME.png`.

    KERAS_BACKEND=torch python tools/explain.py [NAME ...]

Everything in them is computed: noisy images by the schedules, shapes and
parameters by the network, denoised images by a shipped model.
"""

import pathlib
import re
import sys

import keras
import numpy as np
from matplotlib import patches
from matplotlib import pyplot

import keras_simple_diffusion as ksd

DOCS = pathlib.Path(__file__).parents[1] / "docs"
ARROW = {"arrowstyle": "->", "color": "gray"}
SMALL = {"ha": "center", "size": 8, "color": "#555555"}
COLORS = {"residual": "#cfe2ff", "transformer": "#ffd8a8", "ends": "#e9ecef"}


def schedule():
    """One photograph at four sizes, without and with the shift."""
    sizes, time = (8, 16, 32, 64), 0.5
    photograph = ksd.data.load_vehicles(64, "train").images[0]
    rng = np.random.default_rng(0)
    figure, rows = pyplot.subplots(2, 4, figsize=(10, 5.6), layout="tight")
    for size, column in zip(sizes, rows.T, strict=True):
        step = 64 // size
        shape = (size, step, size, step, 3)
        image = photograph.reshape(shape).mean((1, 3)) / 127.5 - 1
        noise = rng.standard_normal(image.shape)
        schedules = (
            ksd.schedules.CosineSchedule(),
            ksd.schedules.ShiftedCosineSchedule(size, noise_size=8),
        )
        names = ("cosine", "shifted to 8")
        for axes, chosen, name in zip(column, schedules, names, strict=True):
            log_snr = float(chosen(time))
            alpha, sigma = map(float, ksd.ops.alpha_sigma(log_snr))
            noisy = alpha * image + sigma * noise
            axes.imshow(np.clip((noisy + 1) / 2, 0, 1))
            axes.set_title(
                f"{size} x {size}, {name}: log-SNR {log_snr + 0.0:.1f}",
                fontsize=9,
            )
            axes.axis("off")
    return figure


def uvit():
    """The U-ViT for 256 pixels: shapes, blocks and parameters of each level."""
    with keras.device("meta"):  # Without memory for the weights.
        network = ksd.models.DiffusionBackbone.from_preset(
            "uvit_imagenet_256", load_weights=False
        )
    total = network.count_params()
    parts = {}
    for variable in network.trainable_variables:
        owner = re.sub(r"_\d+$", "", variable.path.split("/")[0])
        parts.setdefault(owner, []).append(int(np.prod(variable.shape)))
    sides = [
        network.image_shape[0] // network.downsampling_factor // 2**level
        for level in range(len(network.channels))
    ]
    figure, axes = pyplot.subplots(figsize=(10, 5), layout="tight")
    axes.set(xlim=(-0.2, 10.2), ylim=(-4.5, 1.8))
    axes.axis("off")
    height, width, channels = network.image_shape
    shape = f"{height} x {width} x {channels}"
    _box(axes, 0, 1.35, 2.2, "ends", f"noisy image\n{shape}")
    _box(axes, 7.8, 1.35, 2.2, "ends", f"prediction\n{shape}")
    axes.text(2.1, 0.63, f"wavelet, by {network.downsampling_factor}", **SMALL)
    axes.text(7.9, 0.63, "inverse wavelet", **SMALL)
    *levels, lowest = range(len(sides))
    for level in levels:
        left, y = 0.55 * level, -1.1 * level
        shape = f"{sides[level]} x {sides[level]} x {network.channels[level]}"
        share = sum(parts[f"down_{level}"] + parts[f"up_{level}"]) / total
        blocks = network.blocks[level]
        right = 7.8 - left
        for place, number in ((left, blocks), (right, blocks + 1)):
            text = f"{number} residual blocks\n{shape}"
            _box(axes, place, y, 2.2, "residual", text)
        axes.annotate("", (right, y), (left + 2.2, y), arrowprops=ARROW)
        down, up = left + 1.1, right + 1.1
        above = y + (1.02 if not level else 0.77)
        axes.annotate("", (down, y + 0.33), (down, above), arrowprops=ARROW)
        axes.annotate("", (up, above), (up, y + 0.33), arrowprops=ARROW)
        axes.text(5, y + 0.1, f"skips; {share:.1%} of the parameters", **SMALL)
    y = -1.1 * lowest - 0.2
    share = sum(parts["transformer"]) / total
    side = sides[lowest]
    text = (
        f"{network.blocks[lowest]} transformer blocks on {side} x {side} = "
        f"{side**2} tokens of {network.channels[lowest]:,}\n"
        f"{share:.1%} of {total / 1e9:.2f} billion parameters"
    )
    _box(axes, 1.9, y, 6.2, "transformer", text)
    for x, begin, end in ((2.65, 0.97, 0.33), (7.35, 0.33, 0.97)):
        axes.annotate("", (x, y + end), (x, y + begin), arrowprops=ARROW)
    text = "the embedded noise level and class modulate every block"
    axes.text(5, y - 0.65, text, **SMALL)
    return figure


def denoising():
    """Noisy images of a drawing and the clean ones predicted from them."""
    model = ksd.models.DiffusionModel.from_preset("photos_64")
    label = model.class_names.index("Motorbikes")
    _, noisy, clean = model.generate(
        labels=[label], seed=0, num_steps=12, return_steps=True
    )
    images = np.concatenate([noisy[0], clean[0]])
    if images.dtype != np.uint8:
        images = np.uint8(np.clip(127.5 * (images + 1), 0, 255))
    return ksd.utils.show(images, columns=12)


def preset():
    """The choice of a preset, as questions."""
    questions = (
        ("a CPU, drawings with captions?", "emoji_teacher", "finetuned, 64 px"),
        (
            "a CPU, photographs with captions?",
            "uvit_photos_text_64",
            "from photos_64, 64 px",
        ),
        ("a CPU, and color images?", "photos_64", "finetuned, 64 px"),
        ("a CPU, and small gray images?", "uvit_digits_16", "16 px"),
        ("one GPU?", "uvit_small_64, uvit_caltech_64", "64 px"),
        ("a pod, and labels?", "uvit_imagenet_..., sid2_...", "128 to 512 px"),
        ("a pod, and captions?", "uvit_text_...", "256 to 512 px"),
    )
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="tight")
    axes.set(xlim=(0, 10), ylim=(-len(questions) + 0.4, 0.6))
    axes.axis("off")
    for row, (question, name, note) in enumerate(questions):
        _box(axes, 0.1, -row, 3.9, "ends", question)
        _box(axes, 5.2, -row, 4.6, "transformer", f"{name}\n{note}")
        axes.annotate("", (5.2, -row), (4, -row), arrowprops=ARROW)
        axes.text(4.6, -row + 0.08, "yes", **SMALL)
        if row:
            axes.annotate(
                "", (2, -row + 0.36), (2, -row + 0.64), arrowprops=ARROW
            )
            axes.text(2.3, -row + 0.43, "no", **SMALL)
    return figure


def _box(axes, left, middle, width, kind, text):
    axes.add_patch(
        patches.FancyBboxPatch(
            (left, middle - 0.33),
            width,
            0.66,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=COLORS[kind],
            edgecolor="gray",
        )
    )
    axes.text(left + width / 2, middle, text, ha="center", va="center", size=9)


IMAGES = {
    "schedule": schedule,
    "uvit": uvit,
    "denoising": denoising,
    "preset": preset,
}


def main():
    for name in sys.argv[1:] or IMAGES:
        image = IMAGES[name]()
        path = DOCS / f"explain_{name}.png"
        if isinstance(image, pyplot.Figure):
            image.savefig(path, dpi=100)
        else:
            image.save(path)
        print(path.name)


if __name__ == "__main__":
    main()
