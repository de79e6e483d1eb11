"""The exported page in a real browser, headless Chromium."""

import contextlib
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.export import web_runtime
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command
from tests.helpers.models import make_backbone
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import randomize

for package in ("tf2onnx", "onnxruntime"):
    pytest.importorskip(package, reason='needs pip install -e ".[export]"')
api = pytest.importorskip(
    "playwright.sync_api", reason="needs pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.any_backend(on="tensorflow"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium"),
]

NAME = "<i>tiny"
NAMES = ["ship", "cat", "<b>{{x}} ${y}"]
TEXTS = ["a red cat", "two dogs!", "Été ß-42"]
SHAPE = (16, 16, 3)
PIXELS = """
[...document.querySelectorAll("canvas")].map((canvas) => {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  return [...context.getImageData(0, 0, width, height).data];
})
"""


def class_model():
    # Its sampler, that of DDPM, draws fresh noise in each step.
    model = make_model(
        class_names=NAMES,
        num_steps=5,
        guidance_scale=1.5,
        backbone={"image_shape": SHAPE},
    )
    randomize(model.backbone)
    return model


def text_model():
    backbone = make_backbone(None, image_shape=SHAPE, context_dim=8)
    return ksd.models.TextToImage(
        randomize(backbone),
        randomize(make_text_encoder(TEXTS), scale=0.5),
        sampler="dpm",
        num_steps=60,
        guidance_scale=1.5,
    )


def guided_model():
    models = [make_model(None, backbone={"image_shape": SHAPE}) for _ in "ab"]
    for seed, model in enumerate(models):
        randomize(model.backbone, seed)
    model, model.guidance_model = models
    model.guidance_scale, model.num_steps = 1.5, 5
    return model


MODELS = {"class": class_model, "text": text_model, "guided": guided_model}


@pytest.fixture(scope="module", params=list(MODELS))
def exported(request, tmp_path_factory):
    """A model, and the folder of its page."""
    folder = tmp_path_factory.mktemp(request.param)
    model = MODELS[request.param]()
    prompts = TEXTS[:2] if request.param == "text" else []
    try:
        web_runtime.find_runtime()
    except InputError as error:
        pytest.skip(str(error))
    model.save_to_preset(folder / NAME)
    result = run_command(
        *("export", "--model", NAME, "--format", "web", "--output", "page"),
        *(word for prompt in prompts for word in ("--prompt", prompt)),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    assert "python -m http.server --directory page" in result.stdout
    return model, folder / "page"


@contextlib.contextmanager
def served(folder):
    """Serve a folder as `python -m http.server` does, and yield the address."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "-b", "127.0.0.1"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield re.search(r"http://\S+?/", server.stdout.readline())[0]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@contextlib.contextmanager
def opened(folder, width=1280, query="", arguments=()):
    """Open the page of a folder; at the end there must be no errors."""
    with served(folder) as address, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *arguments]
        )
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.errors = []
        page.on(
            "console",
            lambda m: page.errors.append(m.text) if m.type == "error" else None,
        )
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(address + query)
        follow(page, r"Ready\.")
        yield page
        assert page.errors == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()


def follow(page, until):
    """Return the messages of the page, in turn, until one matches."""
    seen = []
    for _ in range(6000):
        text = page.locator("#status").inner_text()
        if text not in seen:
            seen.append(text)
        if re.fullmatch(until, text):
            return seen
        page.wait_for_timeout(10)
    raise AssertionError(seen)


def draw(page, seed, count):
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.get_by_label("Images", exact=True).fill(str(count))
    page.get_by_role("button", name="Draw").click()
    return follow(page, r"[\d.]+ s per image")


def images_of(page):
    values = np.array(page.evaluate(PIXELS))
    assert (values[:, 3::4] == 255).all()
    return values.reshape(-1, *SHAPE[:2], 4)[..., :3]


def difference(images, expected):
    assert images.shape == expected.shape
    return np.abs(images - expected.astype(int)).max()


@pytest.mark.parametrize("exported", ["class"], indirect=True)
def test_the_browser_draws_the_images_of_generate(exported):
    model, folder = exported
    with opened(folder) as page:
        assert page.get_by_role("heading").inner_text() == NAME
        chips = page.get_by_role("group", name="Classes").get_by_role("button")
        assert chips.all_inner_texts() == NAMES
        draw(page, 2**40 + 7, 4)
        found = images_of(page)
        # The numbers of the classes are those of the images in turn.
        expected = model.generate(labels=[0, 1, 2, 0], seed=2**40 + 7)
        assert difference(found, expected) <= 2
        assert (
            page.locator("figcaption").nth(2).inner_text().startswith(NAMES[2])
        )
        # Chosen classes, another guidance, and the first images remain.
        chips.nth(2).click()
        page.get_by_label("Guidance").fill("2.5")
        draw(page, 3, 2)
        expected = model.generate(labels=[2, 2], seed=3, guidance_scale=2.5)
        assert difference(images_of(page)[:2], expected) <= 2
        assert difference(images_of(page)[2:], found) == 0


@pytest.mark.large
@pytest.mark.parametrize("exported", ["guided"], indirect=True)
def test_a_second_network_guides(exported):
    model, folder = exported
    with opened(folder) as page:
        draw(page, 5, 2)
        expected = model.generate(2, seed=5)
        assert difference(images_of(page), expected) <= 2
        page.get_by_label("Guidance").fill("2.5")
        draw(page, 5, 2)
        expected = model.generate(2, seed=5, guidance_scale=2.5)
        assert difference(images_of(page)[:2], expected) <= 2


@pytest.mark.large
@pytest.mark.parametrize("exported", ["class", "text"], indirect=True)
@pytest.mark.parametrize("width", [1280, 400])
def test_steps_cancel_and_download(exported, width, tmp_path):
    model, folder = exported
    is_text = isinstance(model, ksd.models.TextToImage)
    with opened(folder, width) as page:
        if is_text:
            chips = page.locator("#words button")
            assert chips.all_inner_texts() == TEXTS[:2]
            page.get_by_label("Prompt").fill("two do")
            assert chips.all_inner_texts() == ["dogs"]
            chips.first.click()
            assert page.get_by_label("Prompt").input_value() == "two dogs"
            page.get_by_label("Prompt").fill(f"{TEXTS[2]} dogz 😀!")
            seen = draw(page, 1, 2)
            expected = model.generate([f"{TEXTS[2]} dogz 😀!"] * 2, seed=1)
            steps = [x for x in seen if x.startswith("Image 1 of 2, step")]
            assert len(steps) >= 3
        else:
            draw(page, 1, 2)
            expected = model.generate(labels=[0, 1], seed=1)
        assert difference(images_of(page), expected) <= 2
        # The file holds the image, and the slider its steps.
        with page.expect_download() as download:
            page.get_by_role("link", name="Download as PNG").nth(1).click()
        download.value.save_as(tmp_path / "image.png")
        with PIL.Image.open(tmp_path / "image.png") as image:
            saved = np.asarray(image)[None, ..., :3]
        assert difference(saved, expected[1:]) <= 2
        page.locator("figure").nth(0).get_by_label("Step").fill("1")
        assert difference(images_of(page)[:1], expected[:1]) > 2
        if not is_text:
            return
        # What is cancelled disappears.
        page.get_by_label("Images", exact=True).fill("16")
        page.get_by_role("button", name="Draw").click()
        follow(page, r"Image 1 of 16, step \d+ of 60")
        page.get_by_role("button", name="Cancel").click()
        follow(page, r"Cancelled\.")
        assert 2 <= page.locator("figure").count() < 18
        page.reload()
        follow(page, r"Ready\.")


@pytest.mark.large
@pytest.mark.parametrize("exported", ["class"], indirect=True)
def test_webgpu(exported):
    model, folder = exported
    arguments = (
        "--enable-unsafe-webgpu",
        "--use-webgpu-adapter=swiftshader",
        "--enable-features=Vulkan",
        "--use-vulkan=swiftshader",
    )
    with opened(folder, 1280, "?device=webgpu", arguments) as page:
        assert "WebGPU" in page.locator("#facts").inner_text()
        draw(page, 1, 2)
        expected = model.generate(labels=[0, 1], seed=1)
        assert difference(images_of(page), expected) <= 2


def test_nothing_is_written_without_a_runtime(tmp_path):
    class_model().save_to_preset(tmp_path / "tiny")
    words = ("export", "--model", "tiny", "--output", "page")
    result = run_command(
        *words, "--format", "web", "--runtime", "tiny", cwd=tmp_path
    )
    assert "is not the package onnxruntime-web" in error_line(result)
    result = run_command(*words, "--runtime", "tiny", cwd=tmp_path)
    assert "are for `--format web`" in error_line(result)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
