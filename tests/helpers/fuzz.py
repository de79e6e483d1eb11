"""Command lines drawn at random, good and odd, and what they must keep to."""

import csv
import dataclasses
import json
import pathlib
import random
import shutil
import traceback
import warnings
import zipfile

import numpy as np
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data import embedding_cache
from keras_simple_diffusion.export import draw
from keras_simple_diffusion.models import Preset
from keras_simple_diffusion.training import RunSettings
from keras_simple_diffusion.utils.image_files import save_image
from tests.helpers.commands import run_command

# === Files ===


def write_world(folder):
    """Write presets, runs, images and other files, whole ones and odd ones."""
    _write_images(folder)
    _write_models(folder)
    _write_odd_files(folder)
    _write_odd_presets(folder)
    _write_odd_runs(folder)


def _write_images(folder):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("Blue, dark", "red"):
            place = folder / "images" / split / name
            place.mkdir(parents=True)
            for index in range(3):
                pixels = rng.integers(0, 256, (9, 8, 3), "uint8")
                Image.fromarray(pixels).save(place / f"{index}.png")
    shutil.copy(place / "0.png", folder / "image.png")
    place = folder / "captioned"
    place.mkdir()
    with (place / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "text"])
        for index in range(3):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), "uint8")).save(
                place / f"{index}.png"
            )
            writer.writerow([f"{index}.png", f"a red image, {index}"])
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for path in sorted((folder / "images").rglob("*.png")):
            archive.write(path, path.relative_to(folder / "images"))
    Image.new("L", (1, 1)).save(folder / "dot.png")
    Image.new("1", (8, 8), 1).save(folder / "mask.png")
    Image.new("CMYK", (3, 70)).save(folder / "tall.jpg")


def _write_models(folder):
    network = {"channels": (8,), "blocks": (1,), "num_heads": 1}
    network["embedding_dim"] = 8
    model = ksd.models.DiffusionModel(
        ksd.models.UViTBackbone((8, 8, 3), num_classes=2, **network),
        num_steps=2,
        class_names=["Blue, dark", "red"],
    )
    model.save_to_preset(folder / "model")
    recipe = {"steps": 2, "batch_size": 2, "warmup_steps": 1}
    (folder / "model" / "recipe.json").write_text(json.dumps(recipe))
    backbone = ksd.models.UViTBackbone((4, 4, 1), **network)
    model = ksd.models.DiffusionModel(backbone, num_steps=2)
    model.save_to_preset(folder / "plain")
    encoder = ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(["a red image"]),
        embedding_dim=8,
        num_layers=1,
        num_heads=2,
        sequence_length=8,
    )
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), context_dim=8, portrait_flag=True, **network
    )
    model = ksd.models.TextToImage(backbone, encoder, num_steps=2)
    model.save_to_preset(folder / "text")
    result = run_command(
        *["train", "--data", "images", "--preset", "model", "--output", "run"],
        *["--snapshots", "2", "--steps", "2"],
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    result = run_command(
        *["distill", "--teacher", "model", "--data", "images", "--updates"],
        *["2", "--steps", "1", "--output", "student"],
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr


def _write_odd_files(folder):
    settings = {"command": "generate", "model": "model", "labels": "red,0"}
    settings |= {"number": 2, "num_images": 2, "seed": 5, "steps": 1}
    drawn = Image.new("RGB", (16, 16))
    save_image(drawn, folder / "drawn.png", settings)
    settings |= {"seed": {}, "steps": "many", "labels": 7}
    save_image(drawn, folder / "drawn_odd.png", settings)
    (folder / "empty").mkdir()
    (folder / "empty.png").write_bytes(b"")
    (folder / "zeros.png").write_bytes(bytes(1000))
    (folder / "text.json").write_text("[1, 2]\n")
    content = (folder / "images.zip").read_bytes()
    (folder / "cut.zip").write_bytes(content[: len(content) // 2])
    (folder / "cut.png").write_bytes((folder / "image.png").read_bytes()[:60])
    (folder / "mixed").mkdir()
    for name in ("image.png", "cut.png", "text.json"):
        shutil.copy(folder / name, folder / "mixed" / name)
    for name, text in (
        ("unfinished", 'file_name,text\n"0.png,an open quotation'),
        ("columns", "a,b\n1,2,3\n"),
        ("binary", "\0\1\2"),
        ("long", "file_name,text\n0.png," + 200_000 * "x"),
    ):
        shutil.copytree(folder / "captioned", folder / f"captions_{name}")
        (folder / f"captions_{name}" / "metadata.csv").write_text(text)
    for name, settings in (
        ("list", "[]"),
        ("number", "1"),
        ("nothing", "{}"),
        ("deep", 10_000 * "["),
        ("binary", "\0"),
        ("types", json.dumps({"seed": "one", "model": {}, "labels": 3})),
    ):
        (folder / f"begun_{name}").mkdir()
        (folder / f"begun_{name}" / "settings.json").write_text(settings)
    embeddings = folder / "embeddings"
    embeddings.mkdir()
    (embeddings / "config.json").write_text("[]")
    (folder / "link").symlink_to("nowhere")


def _write_odd_presets(folder):
    def copy(name, source="model"):
        shutil.copytree(folder / source, folder / name)
        return folder / name

    def change(file, *path, value):
        content = json.loads(file.read_text())
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        file.write_text(json.dumps(content))

    for path in copy("bare").glob("*.h5"):
        path.unlink()
    for name, text in (
        ("cut", '{"config": '),
        ("deep", 10_000 * "["),
        ("list", "[]"),
        ("binary", "\0"),
        ("number", "1"),
        ("nothing", "{}"),
    ):
        for file in ("config", "task", "recipe", "metadata"):
            path = copy(f"preset_{file}_{name}") / f"{file}.json"
            path.write_text(text)
    weights = "model.weights.h5"
    content = (folder / "model" / weights).read_bytes()
    (copy("weights_empty") / weights).write_bytes(b"")
    (copy("weights_cut") / weights).write_bytes(content[: len(content) // 2])
    (copy("weights_zeros") / weights).write_bytes(bytes(len(content)))
    shutil.copy(folder / "plain" / weights, copy("weights_other") / weights)
    (copy("weights_folder") / weights).unlink()
    (folder / "weights_folder" / weights).mkdir()
    model = Preset.open(folder / "model").load()
    for weight in model.backbone.trainable_variables:
        weight.assign(np.full(weight.shape, np.nan))
    model.save_to_preset(folder / "weights_nan")
    for name, keys, value in (
        ("image_shape_text", ("image_shape",), "large"),
        ("image_shape_short", ("image_shape",), [8, 8]),
        ("image_shape_types", ("image_shape",), ["a", None, 3]),
        ("image_shape_huge", ("image_shape",), [2**40, 2**40, 3]),
        ("image_shape_negative", ("image_shape",), [-8, 8, 3]),
        ("channels_text", ("channels",), "many"),
        ("channels_huge", ("channels",), [2**40]),
        ("channels_nothing", ("channels",), []),
        ("blocks_types", ("blocks",), [{}]),
        ("heads_zero", ("num_heads",), 0),
        ("classes_negative", ("num_classes",), -1),
        ("classes_huge", ("num_classes",), 10**15),
        ("classes_text", ("num_classes",), "two"),
        ("context_text", ("context_dim",), "wide"),
        ("dtype_unknown", ("dtype",), "float7"),
        ("dtype_type", ("dtype",), 7),
        ("extra", ("surprise",), 1),
        ("rematerialize_type", ("rematerialize",), 1),
    ):
        change(
            copy(f"network_{name}") / "config.json",
            "config",
            *keys,
            value=value,
        )
    for name, key, value in (
        ("names_short", "class_names", ["one"]),
        ("names_types", "class_names", [1, {}]),
        ("names_text", "class_names", "ab"),
        ("steps_text", "num_steps", "many"),
        ("steps_zero", "num_steps", 0),
        ("guidance_text", "guidance_scale", "strong"),
        ("guidance_nan", "guidance_scale", float("nan")),
        ("sampler_unknown", "sampler", {"class_name": "A", "config": {}}),
        ("sampler_type", "sampler", 3),
        ("schedule_type", "schedule", []),
        ("schedule_text", "schedule", "quick"),
        ("loss_unknown", "loss", {"registered_name": "x>Y"}),
        ("prediction", "prediction_type", "w"),
        ("dropout", "label_dropout", "a"),
        ("extra", "surprise", 1),
    ):
        change(copy(f"task_{name}") / "task.json", "config", key, value=value)
    change(
        copy("class_unknown") / "config.json", "registered_name", value="a>B"
    )
    change(
        copy("class_foreign") / "config.json",
        "registered_name",
        value="keras>Dense",
    )
    for name, recipe in (
        ("steps", {"steps": "many"}),
        ("batch", {"batch_size": -1}),
        ("flip", {"flip": "no"}),
        ("rate", {"learning_rate": float("nan")}),
        ("unknown", {"lr": 1}),
        ("types", {"beta_1": [], "warmup_steps": {}}),
    ):
        (copy(f"recipe_{name}") / "recipe.json").write_text(json.dumps(recipe))


def _write_odd_runs(folder):
    def copy(name):
        shutil.copytree(folder / "run", folder / name)
        return folder / name

    shutil.rmtree(copy("run_without_checkpoints") / "checkpoints")
    shutil.rmtree(copy("run_without_preset") / "preset")
    for name, text in (
        ("cut", "{"),
        ("list", "[]"),
        ("nothing", "{}"),
        ("deep", 10_000 * "["),
        ("binary", "\0"),
    ):
        (copy(f"run_config_{name}") / "config.json").write_text(text)
    config = json.loads((folder / "run" / "config.json").read_text())
    for key, value in (
        ("recipe", []),
        ("recipe", {"steps": []}),
        ("image_size", "8"),
        ("image_size", [8.5, 8]),
        ("data", 3),
        ("data", "absent"),
        ("facts", []),
        ("facts", {}),
        ("seed", "one"),
        ("log", "tensorboard"),
        ("distribution", "all"),
        ("workers", 10**9),
        ("surprise", 1),
        ("student", 1),
        ("student", {"method": "magic"}),
        ("student", {"method": "moments", "num_steps": 1}),
    ):
        text = json.dumps({**config, key: value})
        number = len(list(folder.glob("run_field_*")))
        place = copy(f"run_field_{key}_{number}")
        (place / "config.json").write_text(text)
    for name, change in (
        ("cut", lambda content: content[: len(content) // 2]),
        ("empty", lambda content: b""),
        ("zeros", lambda content: bytes(len(content))),
    ):
        place = copy(f"run_files_{name}")
        for path in [*(place / "checkpoints").rglob("*")]:
            if path.is_file():
                path.write_bytes(change(path.read_bytes()))
        place = copy(f"run_snapshots_{name}")
        for path in (place / "snapshots").iterdir():
            path.write_bytes(change(path.read_bytes()))


# === Command lines ===

_NUMBERS = [
    *["0", "1", "-1", "2", "0.5", "-0.0", "nan", "inf", "-inf", "1e400"],
    *["1e39", "99999999999999999999", 5000 * "9", "many", "", " 1", "1_0"],
    *["٣", "²", "0x1", "1,2", "--"],
]
_COUNTS = [n for n in _NUMBERS if n not in ("99999999999999999999",)]
_OUTPUTS = [
    *["out/a/b.png", "out.PNG", "out.jpg", "out.json", "out", "out/", "."],
    *["", " ", "-", "image.png/a.png", "images", "empty", "model", "out.gif"],
    *["/proc/none/a.png", "/proc/none", "/dev/full", "/dev/null", "link"],
    *[300 * "x" + ".png", "out\n.png", "out/../out/b.png", "text.json"],
    *["/dev/null/a.json", "/dev/null/a", "out.features"],
]
_IMAGES = [
    *["image.png", "dot.png", "mask.png", "tall.jpg", "cut.png", "empty.png"],
    *["zeros.png", "text.json", "images", "absent", "", "/dev/null", "link"],
    *["/proc/self/mem", 300 * "x", "images.zip"],
]
_DATA = [
    *["images", "images.zip", "captioned", "digits", "absent", "empty"],
    *["empty.png", "image.png", "cut.zip", "zeros.png", "mixed", "model"],
    *["captions_unfinished", "captions_columns", "captions_binary"],
    *["captions_long", "tfds:", "tfds:none", "", "/dev/null", "link"],
    *["images/train/red", "images/test", "run", 300 * "x", "tfds:../images"],
]
_TEXTS = ["", " ", "red", "a red image", 3000 * "x", "\x1b[31m", "\udcff", "é"]
_LABELS = [
    *["red", "RED", "rde", "blue, dark", "Blue, dark,red", "0,1,2", "3", "-1"],
    *["", ",", "red,", "1.5", "none", " 1 ", "٣", 5000 * "9", "0;1", "nan"],
    "99999999999999999999",
]
_SAMPLERS = [
    *["ddpm", "ddim", "heun", "dpm", "DDIM", "euler", "", ":", "ddim:"],
    *["ddim:eta=2", "ddim:eta=nan", "ddim:eta", "ddim:eta=0.5", "ddim:x=1"],
    *["ddpm:variance_interpolation=(", "heun:churn_interval=(1,)"],
    *["heun:churn_interval=3", "heun:churn=1e400", "dpm:order=9"],
    *["dpm:order=1,order=2", "ddim:eta=__import__('os')", "ddim:eta='a'"],
    *["dpm:order=1.5", "ddim:**{}", "ddim:eta=[1]", "dpm:stochastic=3"],
]
_INTERVALS = ["-3,3", "3,-3", "3", "a,b", "nan,1", "-inf,inf", "1,2,3", "", ","]
_FLAG = [None]


def _presets(folder):
    """List what may be meant by a model, of this world or another."""
    kinds = ("bare", "class_", "network_", "preset_", "recipe_", "task_")
    made = [
        path.name
        for path in folder.iterdir()
        if path.name.startswith((*kinds, "weights_"))
    ]
    return [
        *["model", "plain", "text", "run", "run/preset", "student"],
        "uvit_digits_16",
        *["absent", "empty", "image.png", "images", "", "/dev/null", "link"],
        *["hf://", "hf:///", "x://y", "emojis", "Emoji", 300 * "x", "../model"],
        *["run_without_checkpoints", "run_without_preset"],
        *sorted(made),
    ]


def _runs(folder):
    made = [path.name for path in folder.iterdir()]
    return [
        *["absent", "empty", "image.png", "model", "images", "", "/dev/null"],
        *["run/preset", "run/checkpoints", "link", 300 * "x"],
        *sorted(n for n in made if n.startswith("run_")),
    ]


def _options(folder):
    """Map each command to its options: the plain value, and other values."""
    presets, runs = _presets(folder), _runs(folder)
    begun = sorted(path.name for path in folder.glob("begun_*"))
    drawing = {
        "--model": ("model", presets),
        "--num-images": ("1", [*_COUNTS, "3", "10000000000"]),
        "--labels": (None, _LABELS),
        "--prompt": (None, _TEXTS),
        "--negative-prompt": (None, _TEXTS),
        "--portrait": (None, _FLAG),
        "--scale": (None, [n for n in _NUMBERS if len(n) < 9]),
        "--steps": ("1", [*_NUMBERS, "10000000000"]),
        "--guidance": (None, _NUMBERS),
        "--output": ("out.png", _OUTPUTS),
    }
    sampling = {"--sampler": (None, _SAMPLERS), "--seed": ("0", _NUMBERS)}
    editing = {**drawing, **sampling, "--image": ("image.png", _IMAGES)}
    return {
        "train": {
            "--data": ("images", _DATA),
            "--preset": ("model", [p for p in presets if "digits" not in p]),
            "--output": ("out", _OUTPUTS),
            "--steps": ("1", [n for n in _NUMBERS if len(n) < 9]),
            "--minutes": (None, _NUMBERS),
            "--image-size": (None, [*_NUMBERS, "9", "16", "60000"]),
            "--crop": (None, ["random", "left", ""]),
            "--batch-size": ("2", [*_NUMBERS, "10000000", "7"]),
            "--accumulate": (None, _NUMBERS),
            "--optimizer": (None, ["adamw", "muon", "sgd", "ADAM", ""]),
            "--learning-rate": (None, _NUMBERS),
            "--weight-decay": (None, _NUMBERS),
            "--stratified": (None, _FLAG),
            "--initialize-from": (None, presets),
            "--embeddings": (
                None,
                ["embeddings", "empty", "absent", "model", "image.png", ""],
            ),
            "--checkpoint-every": (None, _NUMBERS),
            "--keep": (None, _NUMBERS),
            "--samples-every": (None, _NUMBERS),
            "--quick-fid": (None, ["1", "0", "many"]),
            "--snapshots": (None, _NUMBERS),
            "--dtype": (None, ["mixed_bfloat16", "float16", ""]),
            "--rematerialize": (None, ["none", "attention", "all", ""]),
            "--workers": (None, ["-1", "many", "99999999999", "0"]),
            "--log": (None, ["paper", "", "history"]),
            "--distribution": (
                None,
                ["tensor:0", "tensor:x", "all", "", "tensor", "data:2"],
            ),
            "--seed": ("0", _NUMBERS),
        },
        "train --resume": {
            "--resume": ("run", runs),
            "--steps": (None, [n for n in _NUMBERS if len(n) < 9]),
            "--minutes": (None, _NUMBERS),
            "--data": (None, ["images"]),
            "--seed": (None, ["1"]),
        },
        "distill": {
            "--teacher": ("model", presets),
            "--data": ("images", _DATA),
            "--output": ("out", _OUTPUTS),
            "--steps": ("1", [*_NUMBERS, "1025"]),
            "--method": (None, ["progressive", "moments", "Moments", ""]),
            "--guidance": (None, _NUMBERS),
            "--updates": ("1", [n for n in _NUMBERS if len(n) < 9]),
            "--minutes": (None, _NUMBERS),
            "--crop": (None, ["random", "left", ""]),
            "--batch-size": ("2", [*_NUMBERS, "10000000", "7"]),
            "--accumulate": (None, _NUMBERS),
            "--learning-rate": (None, _NUMBERS),
            "--dtype": (None, ["mixed_bfloat16", "float16", ""]),
            "--embeddings": (None, ["embeddings", "absent", "model", ""]),
            "--checkpoint-every": (None, _NUMBERS),
            "--samples-every": (None, _NUMBERS),
            "--distribution": (None, ["tensor:0", "all", ""]),
            "--seed": ("0", _NUMBERS),
        },
        "distill --resume": {
            "--resume": ("student", runs),
            "--updates": (None, [n for n in _NUMBERS if len(n) < 9]),
            "--steps": (None, ["1", "2"]),
            "--data": (None, ["images"]),
        },
        "embed": {
            "--data": ("captioned", _DATA),
            "--preset": ("text", presets),
            "--output": ("out", _OUTPUTS),
            "--batch-size": (None, _NUMBERS),
        },
        "average": {
            "--run": ("run", [*runs, *presets]),
            "--output": ("out", _OUTPUTS),
            "--width": ("0.15", [*_NUMBERS, None]),
            "--decay": (None, [*_NUMBERS, "0.9"]),
        },
        "generate": {
            **drawing,
            **sampling,
            "--guidance-interval": (None, _INTERVALS),
            "--guidance-rescale": (None, _NUMBERS),
            "--guidance-model": (None, presets),
            "--spacing": (None, ["power", "log_snr", "even", ""]),
            "--clipping": (None, ["none", "dynamic", "hard", ""]),
            "--steps-strip": (None, _FLAG),
            "--like": (None, [*_IMAGES, "drawn.png", "drawn_odd.png"]),
            "--batch-size": (None, _NUMBERS),
            "--output": ("out.png", [*_OUTPUTS, *begun]),
            "--resume": (None, _FLAG),
        },
        "edit": {**editing, "--strength": (None, _NUMBERS)},
        "inpaint": {**editing, "--mask": ("mask.png", _IMAGES)},
        "upscale": {**editing, "--factor": ("2", [*_NUMBERS, "3", "8", "16"])},
        "interpolate": {
            **drawing,
            "--first": ("1", [*_NUMBERS, *_IMAGES]),
            "--second": ("image.png", [*_NUMBERS, *_IMAGES]),
        },
        "evaluate": {
            "--model": ("model", [*presets, *_DATA]),
            "--data": ("images", _DATA),
            "--metrics": (
                "bits_per_dimension",
                ["", ",", "beauty", "FID", "fid,fid", "class_accuracy", "fid,"],
            ),
            "--num-images": ("4", [*_COUNTS, "5", "6"]),
            "--feature-weights": (None, [*_IMAGES, "model/model.weights.h5"]),
            "--resize": (None, ["pytorch", "none", ""]),
            "--classifier": (None, _IMAGES),
            "--steps": ("1", [*_COUNTS, "1,", ",", "1,2"]),
            "--guidance": (None, _NUMBERS),
            "--guidance-interval": (None, _INTERVALS),
            "--sampler": (None, _SAMPLERS),
            "--resamples": (None, _NUMBERS),
            "--batch-size": (None, _NUMBERS),
            "--seed": (None, _NUMBERS),
            "--output": ("out.json", [*_OUTPUTS, *begun]),
            "--distribution": (None, ["tensor:0", "all", ""]),
            "--resume": (None, _FLAG),
        },
        "inspect-data": {
            "--data": ("images", _DATA),
            "--image-size": (None, [*_NUMBERS, "9", "60000"]),
            "--output": ("out.png", _OUTPUTS),
        },
        "presets": {"--json": (None, _FLAG), "--name": (None, ["emoji"])},
        "export": {
            "--model": ("model", presets),
            "--output": ("out", _OUTPUTS),
            "--format": ("saved_model", ["onnx", "openvino", "tflite", ""]),
            "--precision": (None, ["float16", "float32", "int4", ""]),
            "--steps": (None, [*_COUNTS, "3"]),
            "--guidance": (None, _NUMBERS),
            "--guidance-interval": (None, _INTERVALS),
            "--spacing": (None, ["power", "log_snr", "even", ""]),
            "--sampler": (None, _SAMPLERS),
            "--prompt": (None, _TEXTS),
        },
        # With the right package it would be a page.
        "export --format web": {
            "--format": ("web", ["web"]),
            "--model": ("model", presets),
            "--output": ("out", _OUTPUTS),
            "--runtime": ("absent", _IMAGES),
            "--prompt": (None, _TEXTS),
        },
        "app": {
            "--model": ("model", presets),
            "--export-space": ("out", _OUTPUTS),
            "--runs": (None, [*runs, "link"]),
            "--port": (None, _NUMBERS),
        },
    }


class CommandLines:
    """Command lines over all commands, on files of `write_world`.

    Args:
        folder: The files.
    """

    def __init__(self, folder):
        self.options = _options(folder)

    def singles(self):
        """List those that differ from a plain one in one option."""
        return [
            self._line(command, {option: value})
            for command, options in self.options.items()
            for option, (_, values) in options.items()
            for value in dict.fromkeys([*values, _LEFT_OUT])
            if value is not _LEFT_OUT or (command, option) not in _NEEDED
        ]

    def combinations(self, count, seed, of=""):
        """Draw command lines that differ in two to four options.

        Args:
            count: Number of command lines.
            seed: Seed.
            of: How their commands begin.
        """
        rng = random.Random(seed)
        commands = [name for name in self.options if name.startswith(of)]
        lines = []
        for _ in range(count):
            command = rng.choice(commands)
            options = self.options[command]
            number = min(rng.randint(2, 4), len(options))
            changes = {
                option: rng.choice(options[option][1])
                for option in rng.sample(list(options), number)
            }
            lines.append(self._line(command, changes))
        return lines

    def _line(self, command, changes):
        words = command.split()[:1]
        for option, (plain, values) in self.options[command].items():
            if values is _FLAG:
                words += [option] if option in changes else []
                continue
            value = changes.get(option, plain)
            if value not in (None, _LEFT_OUT):
                words += [option, value]
        return words


_LEFT_OUT = object()
_NEEDED = (
    ("train", "--preset"),  # The default network takes minutes.
    ("app", "--export-space"),  # It would be served.
    ("export --format web", "--runtime"),  # It would be downloaded.
)


# === Rules ===


@dataclasses.dataclass
class World:
    """Files that commands read, and the traces that they leave there.

    Args:
        folder: The files.
    """

    folder: pathlib.Path

    def __post_init__(self):
        self.whole = self._facts()
        self.copy = self.folder.with_name("whole")
        shutil.copytree(self.folder, self.copy, symlinks=True)

    def check(self, lines):
        """Run commands, and raise an error that lists the broken rules."""
        faults = []
        for words in lines:
            found = self.breaches(words)
            if found:
                shown = " ".join(repr(word[:60]) for word in words)
                faults.append("\n".join([shown, *found]))
        report = "\n\n".join(faults)
        assert not faults, (
            f"{len(faults)} of {len(lines)} command lines\n{report}"
        )

    def breaches(self, words):
        """Run a command; return the rules that it broke, and clean up."""
        found = list(self._breaches(words))
        after = self._facts()
        for path in sorted(after.keys() - self.whole.keys()):
            path = self.folder / path
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for path, facts in self.whole.items():
            if after.get(path) != facts:
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.copy / path, self.folder / path)
        return found

    def _breaches(self, words):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                result = run_command(*words, cwd=self.folder)
        except BaseException as error:
            yield "".join(traceback.format_exception(error)[-3:])
            return
        after = self._facts()
        resumed = None
        if words[0] in ("train", "distill") and "--resume" in words:
            resumed = words[words.index("--resume") + 1]
        for path, facts in self.whole.items():
            if path.split("/")[0] == resumed:
                continue
            if path not in after:
                yield f"removed {path}"
            elif after[path] != facts:
                yield f"changed {path}"
        new = [
            path
            for path in after.keys() - self.whole.keys()
            if path.split("/")[0] != resumed
        ]
        if result.returncode == 0:
            yield from self._open(words, new)
            return
        if result.returncode != 2:
            yield f"exit status {result.returncode}"
        lines = result.stderr.splitlines()
        is_usage = lines and lines[0].startswith("Usage: ")
        lines = [line for line in lines if not line.startswith("Warning: ")]
        if not is_usage and (
            len(lines) != 1 or not lines[0].startswith("Error: ")
        ):
            yield f"no line: {result.stderr[-1000:]!r}"
        yield from self._leftovers(new)

    def _leftovers(self, new):
        """What a failed command may leave is work that can be resumed."""
        begun = [
            pathlib.PurePath(path).parent
            for path in new
            if path.endswith(("/settings.json", "/config.json"))
        ]
        for path in new:
            path = pathlib.PurePath(path)
            if path.name.startswith(".draft-"):
                yield f"left {path}"
            if not any(
                path == root or path in root.parents or root in path.parents
                for root in begun
            ):
                yield f"left {path}"

    def _open(self, words, new):
        if any(".draft-" in path for path in new):
            yield f"left drafts: {new}"
        if words[0] == "presets":
            return
        if {"--resume", "--output"} & {*words} == {"--output"} and not new:
            output = words[words.index("--output") + 1]
            if not output.startswith("/dev/"):
                yield "nothing was written"
        for path in new:
            path = self.folder / path
            if path.is_dir():
                continue
            try:
                if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
                    with Image.open(path) as image:
                        image.load()
                elif path.suffix == ".json":
                    json.loads(path.read_text())
                trains = words[0] in ("train", "distill")
                if path.name == "config.json" and trains:
                    if path.parent.name == "preset":
                        Preset.open(path.parent).load()
                    else:
                        RunSettings.read(path.parent)
                if path.name == "config.json" and words[0] == "average":
                    Preset.open(path.parent).load()
                if path.name == "model.json" and words[0] == "export":
                    exported = draw.ExportedModel(path.parent)
                    wanted = {None: [], "label": [1], "text": ["red"]}
                    exported.draw(wanted[exported.settings["condition"]])
                if path.name == "config.json" and words[0] == "embed":
                    embedding_cache.EmbeddingCache(path.parent)
            except Exception as error:
                yield f"{path}: {error!r}"

    def _facts(self):
        facts = {}
        for path in self.folder.rglob("*"):
            stat = path.lstat()
            is_file = not path.is_dir() or path.is_symlink()
            name = path.relative_to(self.folder).as_posix()
            facts[name] = (stat.st_size, stat.st_mtime_ns) if is_file else None
        return facts
