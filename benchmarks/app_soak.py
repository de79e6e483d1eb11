"""Visit the app as many people do, and compare every image with `generate`.

    python benchmarks/app_soak.py --model emoji --minutes 5

It starts `keras-simple-diffusion app` in a process of its own. 20 visitors
draw one after the other, then 8 at once for some minutes, each visit with a
session of its own; then 300 malformed and unusual files are uploaded, as an
image to edit and as what is painted over one; then more drawings are asked for
at once than may wait. It prints a table in Markdown, and fails if an image is
not that of `generate`, or if the app does not draw at the end.
"""

import argparse
import base64
import collections
import concurrent.futures
import dataclasses
import importlib.metadata
import io
import json
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import gradio_client
import numpy as np
from malformed_images import malformed_images
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.app.drawing import Settings
from keras_simple_diffusion.app.limits import MAX_WAITING

TEXTS = ("man astronaut", "crying face", "red heart", "woman farmer", "cat")
DIFFERENT = 24  # Drawings that visitors choose from.


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--visitors", type=int, default=20, help="in turn")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--uploads", type=int, default=300)
    args = parser.parse_args()
    drawings = choose_drawings(ksd.models.Preset.open(args.model).load())
    print(f"{args.model}, gradio {importlib.metadata.version('gradio')}.\n")
    print("| | visits | images | resident MiB |\n|---|---|---|---|")
    with App(args.model) as app:
        visits = Visits(app.url, drawings)

        def tell(name):
            told = len(visits.seconds), visits.num_images
            print(f"| {name} | {told[0]} | {told[1]} | {app.memory():,.0f} |")
            sys.stdout.flush()

        visits.draw(0)  # Whatever is allocated once.
        tell("the first")
        for number in range(args.visitors):
            visits.draw(number)
        tell(f"{args.visitors} in turn")
        for minute in draw_at_once(visits, args.at_once, args.minutes):
            tell(f"{args.at_once} at once, {minute} min")
        answers = upload(
            app.url, malformed_images(args.uploads), drawings[0][0]
        )
        tell(f"after {args.uploads} uploads")
        refused = crowd(app.url, drawings, MAX_WAITING + 8)
        visits.draw(0)
        tell(f"after {MAX_WAITING + 8} drawings asked for at once")
    report(visits, answers, refused)
    if visits.wrong:
        sys.exit("Images are not those of `generate`.")


def choose_drawings(model):
    """Return pairs of `Settings` and the images that `generate` draws."""
    rng = np.random.default_rng(0)
    drawings = []
    for seed in range(DIFFERENT):
        count = int(rng.integers(1, 3))
        settings = Settings(
            count=count,
            seed=seed,
            steps=model.num_steps,
            guidance=model.guidance_scale,
        )
        if model.backbone.context_dim is not None:
            text = TEXTS[seed % len(TEXTS)]
            wanted = {"prompts": [text] * count}
            settings = dataclasses.replace(settings, prompt=text)
        elif model.backbone.num_classes is not None:
            label = seed % model.backbone.num_classes
            wanted = {"labels": [label] * count}
            settings = dataclasses.replace(settings, classes=[label])
        else:
            wanted = {"num_images": count}
        drawings.append((settings, model.generate(**wanted, seed=seed)))
    return drawings


class App:
    """Context with the app of a model, in a process of its own.

    Args:
        model: string, see `keras_simple_diffusion.models.Preset.open`.
    """

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        command = ["-m", "keras_simple_diffusion", "app", "--model", self.model]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--port", str(port)],
            stdout=subprocess.DEVNULL,
        )
        while self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url).close()
                return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise SystemExit("The app does not start.")

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait()

    def memory(self):
        """Return the resident memory of the process in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) / 1024


class Visits:
    """Visitors, and what they have seen.

    Args:
        url: string.
        drawings: list of pairs of `Settings` and the expected images.
    """

    def __init__(self, url, drawings):
        self.url = url
        self.drawings = drawings
        self.seconds, self.places, self.wrong = [], [], []
        self.num_images = 0
        self._lock = threading.Lock()

    def draw(self, number):
        """Open a page, draw, and compare the images."""
        settings, expected = self.drawings[number % len(self.drawings)]
        client = connect(self.url)
        started = time.perf_counter()
        job = client.submit(*controls(settings), api_name="/draw")
        place = -1
        while not job.done():
            rank = job.status().rank
            place = max(place, -1 if rank is None else rank)
            time.sleep(0.2)
        shown = images_of(job.result()[0])
        seconds = time.perf_counter() - started
        with self._lock:
            self.seconds.append(seconds)
            self.places.append(place + 1)
            self.num_images += len(shown)
            if not np.array_equal(shown, expected):
                self.wrong.append(settings)


def connect(url):
    """Open the page, with more patience than httpx has by itself."""
    patient = {"timeout": 600}
    return gradio_client.Client(url, verbose=False, httpx_kwargs=patient)


def controls(settings):
    """Return settings as the page sends them."""
    values = dataclasses.astuple(settings)
    return [
        "" if value is None and i == 9 else value
        for i, value in enumerate(values)
    ]


def images_of(markup):
    """Decode the images in HTML of the page."""
    urls = re.findall(r'src="data:image/png;base64,([^"]*)"', markup)
    files = (io.BytesIO(base64.b64decode(url)) for url in urls)
    return [np.asarray(Image.open(file)) for file in files]


def draw_at_once(visits, at_once, minutes):
    """Draw as several visitors at once, and yield the number of each minute."""
    numbers = iter(range(10**9))
    started = time.monotonic()

    def visit():
        while time.monotonic() < started + 60 * minutes:
            visits.draw(next(numbers))

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        jobs = [pool.submit(visit) for _ in range(at_once)]
        while concurrent.futures.wait(jobs, timeout=60).not_done:
            yield round((time.monotonic() - started) / 60)
        yield round((time.monotonic() - started) / 60)
        for job in jobs:
            job.result()


def upload(url, files, settings):
    """Upload files, and count the answers by kind of file and message.

    Each is sent as an image to edit, and as what is painted over one.
    """
    page = f"{url}gradio_api/"
    answers = collections.Counter()
    values = controls(settings)
    for number, (kind, suffix, content) in enumerate(files):
        path = send_file(f"{page}upload", f"{number}.{suffix}", content)
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        file["orig_name"] = f"{number}.{suffix}"
        painted = {"background": None, "layers": [file], "composite": None}
        for name, data in (("upload", [file]), ("inpaint", [painted, *values])):
            answers[name, kind, call(f"{page}call/{name}", data)] += 1
    return answers


def send_file(url, name, content):
    """Send a file as a browser does, and return its place in the app."""
    head = f'Content-Disposition: form-data; name="files"; filename="{name}"'
    parts = [f"--limit\r\n{head}\r\n\r\n".encode(), content]
    request = urllib.request.Request(
        url,
        b"".join([*parts, b"\r\n--limit--\r\n"]),
        {"Content-Type": "multipart/form-data; boundary=limit"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)[0]


def call(url, data):
    """Call a function of the page, and return its message or "drawn"."""
    body = json.dumps({"data": data}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as answer:
        *_, name, told = answer.read().decode().strip().splitlines()
    if name == "event: complete":
        return "accepted"
    return (json.loads(told.removeprefix("data: ")) or {}).get("error")


def crowd(url, drawings, count):
    """Ask for many drawings at once, and count those that may not wait."""
    client = connect(url)
    values = controls(drawings[0][0])
    jobs = [client.submit(*values, api_name="/draw") for _ in range(count)]
    refused = collections.Counter()
    for job in jobs:
        try:
            job.result()
        except Exception as error:
            refused[str(error)] += 1
    return refused


def report(visits, answers, refused):
    """Print what visitors have seen."""
    seconds = np.array(visits.seconds)
    print(
        f"\n{len(visits.wrong)} visits with wrong images; median "
        f"{np.median(seconds):.1f} s, longest {seconds.max():.1f} s; places in "
        f"the queue that were told: 1 to {max(visits.places)}\n"
    )
    print("| answers | |\n|---|---|")
    for message, count in refused.items():
        print(f"| {count} at once | {message} |")
    kinds = collections.defaultdict(collections.Counter)
    for (name, kind, message), count in answers.items():
        kinds[name, message][kind] += count
    for (name, message), counts in sorted(kinds.items()):
        shown = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        print(f"| {name}: {shown} | {message} |")


if __name__ == "__main__":
    main()
