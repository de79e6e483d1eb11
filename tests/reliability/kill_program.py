"""Kill a command at its file operations, repeat it, and compare the result.

    KERAS_BACKEND=torch python -m tests.reliability.kill_program train embed:7

Each command runs once without a kill. It then runs again for each of its file
operations, in a folder of its own: SIGKILL ends the process just before the
operation, or, where a file is opened for writing, just after it was emptied.
The command is repeated as a user would, with `--resume` where it can be
resumed. All files must then equal those of the run without a kill, and no
draft may be left. One JSON line is printed for each command. After a colon, a
number of operations of which one is tried; all are without it.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import traceback

import h5py
import keras
import numpy as np
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion import cli
from keras_simple_diffusion.data import embedding_cache
from keras_simple_diffusion.training import run
from keras_simple_diffusion.training.reporting import read_history
from tests.helpers.models import write_t5

_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
# The digest of a manifest is one of the seconds, too.
_DATES = ("date_saved", "seconds", "sha256")
# Columns of the history that are measured with a clock.
_CLOCKED = ("seconds", "images_per_second", "waiting")


# === Kills ===


class Killer:
    """Audit hook that counts the file operations in a folder.

    Args:
        folder: path of the folder.
        number: int. The operation at which the process is killed; `None` for
            no kill.
        torn: bool. Kill it after a file was opened and emptied instead.
    """

    def __init__(self, folder, number=None, torn=False):
        self.folder = str(folder)
        self.number = number
        self.torn = torn
        self.operations = []
        self.is_active = True

    def install(self):
        sys.addaudithook(self)
        begin = h5py.File.__init__

        def open_file(file, name, mode="r", *args, **kwargs):
            # HDF5 opens files without Python.
            if mode != "r" and isinstance(name, (str, os.PathLike)):
                sys.audit("open", os.fspath(name), "w", os.O_WRONLY)
            begin(file, name, mode, *args, **kwargs)

        h5py.File.__init__ = open_file

    def __call__(self, event, values):
        if not self.is_active or not self._is_ours(event, values):
            return
        self.operations.append(event)
        if len(self.operations) - 1 != self.number:
            return
        self.is_active = False
        if self.torn:
            with contextlib.suppress(OSError), open(values[0], "wb"):
                pass
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_ours(self, event, values):
        if event == "open":
            path, mode, flags = values
            writes = os.O_WRONLY | os.O_RDWR
            if not (set("wax+") & set(mode or "") or (flags or 0) & writes):
                return False
        elif event in _CHANGES:
            path = values[0]
        else:
            return False
        if isinstance(path, int):  # Relative to the descriptor of a folder.
            return True
        path = os.path.join(os.getcwd(), os.fspath(path))
        return path.startswith(self.folder) or event == "os.rmdir"


def in_child(function):
    """Call a function in a fork of this process; return its exit status."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        function()
        os._exit(0)
    except SystemExit as leaving:
        os._exit(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        os._exit(70)


# === Comparison ===


def content(path):
    """Read all files of a folder in a form that can be compared.

    Args:
        path: path of the folder.

    Returns:
        A dict from relative names to values.
    """
    found = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.name != ".lock":
            found[name] = None if file.is_dir() else _value(file)
    return found


def _value(file):
    if file.name == "history.csv":
        return [
            {k: v for k, v in row.items() if k not in _CLOCKED}
            for row in read_history(file)
        ]
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return {k: arrays[k].tobytes() for k in arrays.keys()}
    if file.suffix == ".h5":
        values = {}
        with h5py.File(file) as weights:
            weights.visititems(
                lambda name, item: values.update(
                    {name: item[()].tobytes()}
                    if isinstance(item, h5py.Dataset)
                    else {}
                )
            )
        return values
    if file.suffix == ".png":
        return np.asarray(Image.open(file)).tobytes()
    if file.suffix == ".json":
        return _without_clocks(json.loads(file.read_text()))
    return file.read_bytes()


def _without_clocks(value):
    if isinstance(value, dict):
        return {
            k: _without_clocks(v) for k, v in value.items() if k not in _DATES
        }
    return value


# === Commands ===


def prepare(place):
    """Write images, a preset and a finished run into a folder."""
    images, _ = ksd.data.load_digits(8)
    for index, image in enumerate(images[:16]):
        split = "train" if index < 12 else "test"
        path = place / "images" / split / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    keras.utils.set_random_seed(0)
    network = ksd.models.UViTBackbone(
        (8, 8, 1), (8, 16), (1, 1), num_heads=2, num_classes=2, embedding_dim=16
    )
    model = ksd.models.DiffusionModel(network, num_steps=1)
    model.save_to_preset(place / "preset")
    recipe = {"batch_size": 4, "warmup_steps": 2}
    (place / "preset" / "recipe.json").write_text(json.dumps(recipe))


def prepare_text(place):
    """Write captions of the images, and a preset with a frozen encoder."""
    for split in ("train", "test"):
        folder = place / "images" / split
        rows = [
            {"file_name": str(path.relative_to(folder)), "text": path.stem}
            for path in sorted(folder.rglob("*.png"))
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metadata.jsonl").write_text(lines)
    write_t5(place / "t5", pathlib.Path(os.environ["KSD_SHARED_DATA"]))
    encoder = ksd.text.PretrainedTextEncoder(place / "t5", 8)
    network = ksd.models.UViTBackbone(
        (8, 8, 1), (8,), (1,), num_heads=2, embedding_dim=16, context_dim=8
    )
    model = ksd.models.TextToImage(network, encoder, num_steps=1)
    model.save_to_preset(place / "text_preset")


def run_command(*words):
    """Run the command line in this process, without its output."""
    sys.argv = ["keras-simple-diffusion", *map(str, words)]
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            cli.main()
    except SystemExit as leaving:
        if leaving.code:
            raise RuntimeError(text.getvalue().strip()[-500:]) from leaving


def train(place, output):
    run._NUM_INTERVALS = 2  # Checkpoints lie within intervals, too.
    if (output / "run" / "config.json").exists():
        run_command("train", "--resume", output / "run")
        return
    run_command(
        *("train", "--data", place / "images", "--preset", place / "preset"),
        *("--steps", 4, "--checkpoint-every", 1, "--samples-every", 3),
        *("--snapshots", 2, "--keep", 2, "--output", output / "run"),
    )


def distill(place, output):
    run._NUM_INTERVALS = 2
    if (output / "run" / "config.json").exists():
        run_command("distill", "--resume", output / "run")
        return
    run_command(
        *("distill", "--data", place / "images", "--teacher"),
        *(place / "preset", "--updates", 4, "--steps", 1, "--keep", 2),
        *("--checkpoint-every", 1, "--samples-every", 3),
        *("--output", output / "run"),
    )


def generate(place, output):
    resume = ["--resume"] * (output / "out" / "settings.json").exists()
    run_command(
        *("generate", "--model", place / "preset", "--num-images", 4),
        *("--batch-size", 2, "--seed", 0, "--output", output / "out", *resume),
    )


def average(place, output):
    run_command(
        *("average", "--run", place / "done" / "run", "--width", 0.15),
        *("--output", output / "preset"),
    )


class Pixels:
    """Features that are the pixels of the images."""

    name = "pixels"

    def __call__(self, images):
        return images.reshape(len(images), -1).astype("float32") / 255


def evaluate(place, output):
    os.environ["KSD_CACHE"] = str(output / "cache")
    ksd.evaluation.evaluate(
        place / "preset",
        place / "images",
        ("fid", "kid", "nearest"),
        num_images=8,
        feature_weights=Pixels(),
        num_resamples=2,
        output=output / "report.json",
        resume=(output / "report.features" / "settings.json").exists(),
    )


def embed(place, output):
    embedding_cache._SHARD_SIZE = 8
    run_command(
        *("embed", "--data", place / "images", "--preset"),
        *(place / "text_preset", "--output", output / "embeddings"),
    )


COMMANDS = {
    "train": train,
    "distill": distill,
    "generate": generate,
    "average": average,
    "evaluate": evaluate,
    "embed": embed,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("commands", nargs="+", help=f"{list(COMMANDS)}")
    reports = []
    for text in parser.parse_args().commands:
        name, _, share = text.partition(":")
        with tempfile.TemporaryDirectory() as place:
            place = pathlib.Path(place).resolve()
            os.chdir(place)
            os.environ["KSD_CACHE"] = str(place / "cache")
            report = try_all(COMMANDS[name], place, int(share or 1))
        report = {"command": name, "backend": keras.config.backend(), **report}
        print(json.dumps(report), flush=True)
        reports.append(report)
    sys.exit(any(report["failures"] for report in reports))


def try_all(command, place, share):
    """Kill a command at each operation; return a report as a dict."""
    if in_child(lambda: prepare(place)):
        raise RuntimeError("The inputs could not be made.")
    if command is embed and in_child(lambda: prepare_text(place)):
        raise RuntimeError("The captions could not be made.")
    if command is average and in_child(lambda: train(place, place / "done")):
        raise RuntimeError("The run to average could not be made.")
    straight = place / "straight"
    straight.mkdir()
    log = place / "operations"

    def count():
        killer = Killer(straight)
        killer.install()
        command(place, straight)
        killer.is_active = False
        log.write_text(json.dumps(killer.operations))

    if in_child(count):
        raise RuntimeError("The command fails without a kill.")
    operations = json.loads(log.read_text())
    points = [(n, False) for n in range(len(operations))]
    points += [(n, True) for n, e in enumerate(operations) if e == "open"]
    expected, failures = content(straight), []
    chosen = points[::share]
    for number, torn in chosen:
        problem = try_one(command, place, number, torn, expected)
        if problem:
            where = "after opening" if torn else "before"
            failures.append(
                f"{where} {number} ({operations[number]}): {problem}"
            )
    return {
        "operations": len(operations),
        "kills": len(chosen),
        "failures": failures,
    }


def try_one(command, place, number, torn, expected):
    """Kill a command once and repeat it; describe what is wrong, or `None`."""
    output = place / "killed"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()

    def run_killed():
        Killer(output, number, torn).install()
        command(place, output)

    status = in_child(run_killed)
    if status != -signal.SIGKILL:
        return f"not killed, status {status}"
    if in_child(lambda: command(place, output)):
        return "cannot be repeated"
    found = content(output)
    names = {
        name
        for name in {*found, *expected}
        if found.get(name, 0) != expected.get(name, 0)
    }
    if names:
        return f"other content: {', '.join(sorted(names))[:300]}"
    return None


if __name__ == "__main__":
    main()
