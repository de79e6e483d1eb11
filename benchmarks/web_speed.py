"""Time images in headless Chromium beside those drawn in Python.

    export KERAS_BACKEND=tensorflow
    keras-simple-diffusion export --model emoji --format web --output page
    taskset -c 0 python benchmarks/web_speed.py --model emoji --page page

Every contender draws the same images of the same seed on one core, in turn in a
process of its own: the page in Chromium, the `draw.py` in its folder, and
`generate` on the chosen backend. Seconds are those of the processor, with all
processes of the browser. It prints a table in Markdown, and the versions. It
needs `pip install playwright`, and Chromium.
"""

import argparse
import functools
import http.server
import importlib.metadata
import os
import pathlib
import shutil
import sys
import tempfile
import threading

import numpy as np
from processes import processor_seconds
from turns import serve
from turns import take_turns

CONTENDERS = ("Chromium", "draw.py", "generate")
PROMPT = "man astronaut"
PIXELS = """
(count) => [...document.querySelectorAll("canvas")].slice(0, count).map(
  (canvas) => {
    const { width, height } = canvas;
    const context = canvas.getContext("2d");
    return [...context.getImageData(0, 0, width, height).data];
  },
)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--page", required=True)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args)
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.argv += ["--folder", folder]
        facts, seconds = take_turns(CONTENDERS, args.rounds, environment)
        report(args, pathlib.Path(folder), facts, seconds)


def environment(name):
    """Return the environment of a contender."""
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    return {**os.environ, **threads}


def work(name, args):
    """Draw, again for each turn, and leave the images in a file."""
    makers = {"Chromium": open_page, "draw.py": alone, "generate": with_keras}
    draw = makers[name](args)
    images = []

    def run():
        # Other work on the machine changes it less than the time by the clock.
        started = processor_seconds()
        images[:] = draw()
        return processor_seconds() - started

    def keep():
        np.save(pathlib.Path(args.folder) / f"{name}.npy", np.stack(images))
        return {}

    serve(run, keep)


def with_keras(args):
    """Return a function that draws with Keras."""
    import keras_simple_diffusion as ksd

    model = ksd.models.Preset.open(args.model).load()
    if hasattr(model, "text_encoder"):
        wanted = {"prompts": [PROMPT] * args.images}
    else:
        wanted = {"labels": [0] * args.images}
    return functools.partial(model.generate, **wanted, seed=0)


def alone(args):
    """Return a function that draws with ONNX Runtime, from Keras's noise."""
    import onnxruntime
    from keras import ops

    from keras_simple_diffusion.ops import random

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession = functools.partial(
        onnxruntime.InferenceSession, sess_options=options
    )
    folder = pathlib.Path(args.page) / "model"
    sys.path.insert(0, str(folder))
    import draw

    model = draw.ExportedModel(folder)
    key = ops.convert_to_tensor(random.seed_to_key(0), "int32")
    keys = random.image_keys(key, ops.arange(args.images, dtype="int32"))
    shape = model.settings["image_shape"]
    noise = [
        ops.convert_to_numpy(random.normal(keys, stream, shape))
        for stream in range(model.settings["num_noises"])
    ]
    wanted = PROMPT if model.settings["text"] else 0
    return functools.partial(
        model.draw, [wanted] * args.images, noise=np.stack(noise)
    )


def open_page(args):
    """Return a function that draws in Chromium."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(Handler, directory=args.page)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = shutil.which("chromium") or shutil.which("google-chrome")
    browser = (
        sync_playwright()
        .start()
        .chromium.launch(executable_path=path, args=["--no-sandbox"])
    )
    page = browser.new_page()
    page.set_default_timeout(600_000)
    page.goto(f"http://127.0.0.1:{server.server_port}/?device=wasm")
    await_status(page, "Ready.")
    page.locator("#seed").fill("0")
    page.locator("#count").fill(str(args.images))
    if page.locator("#prompt").is_visible():
        page.locator("#prompt").fill(PROMPT)
    else:
        page.locator("#labels button").first.click()

    def draw():
        page.locator("#draw").click()
        await_status(page, "per image")
        pixels = page.evaluate(PIXELS, args.images)
        side = page.locator("canvas").first
        width, height = side.evaluate("({ width, height }) => [width, height]")
        return np.array(pixels, "uint8").reshape(-1, height, width, 4)[..., :3]

    return draw


class Handler(http.server.SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *args):
        pass


def await_status(page, text):
    """Wait until a text is in the message of the page."""
    page.locator("#status").filter(has_text=text).wait_for()


def report(args, folder, facts, seconds):
    """Print the table."""
    import keras

    packages = ("keras", keras.config.backend(), "onnxruntime")
    versions = (f"{p} {importlib.metadata.version(p)}" for p in packages)
    print(f"{args.model}, {', '.join(versions)}.\n")
    print("| | seconds an image | largest difference |")
    print("|---|---|---|")
    expected = np.load(folder / "generate.npy").astype("int16")
    for name in facts:
        found = np.load(folder / f"{name}.npy").astype("int16")
        difference = np.abs(found - expected).max()
        print(
            f"| {name} | {np.median(seconds[name]) / args.images:.2f} "
            f"| {difference} grey levels |"
        )


if __name__ == "__main__":
    main()
