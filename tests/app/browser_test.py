"""The page in a real browser, headless Chromium."""

import re
import shutil

import pytest

from keras_simple_diffusion.app.server import served
from tests.helpers.models import make_model
from tests.helpers.models import randomize

pytest.importorskip("gradio", reason='needs pip install -e ".[app]"')
api = pytest.importorskip(
    "playwright.sync_api", reason="needs pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def url():
    model = make_model(
        class_names=["ship", "cat", "<b>{{x}} ${y}"],
        num_steps=40,
        backbone={"image_shape": (32, 32, 3)},
    )
    randomize(model.backbone)
    with served(model, "tiny") as page:
        yield page.local_url


@pytest.fixture(params=[1280, pytest.param(400, marks=pytest.mark.large)])
def page(request, url):
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": request.param, "height": 900}
        )
        page.errors = []
        page.on(
            "console",
            lambda m: page.errors.append(m.text) if m.type == "error" else None,
        )
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(url)
        yield page
        assert page.errors == []
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= request.param
        browser.close()


def click(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def follow(page, until):
    """Return the texts above the images, in turn, until one matches."""
    seen = []
    for _ in range(3000):
        for text in page.locator(".prose p").all_inner_texts():
            if text not in seen:
                seen.append(text)
            if re.fullmatch(until, text):
                return seen
        page.wait_for_timeout(20)
    raise AssertionError(seen)


def test_empty_boxes_are_random_seeds_and_no_limits(page):
    page.get_by_role("button", name="More").click()
    page.get_by_label("Guide from log-SNR").wait_for()
    seeds = set()
    for _ in range(2):
        click(page, "Draw")
        page.locator(".prose p").filter(has_text="step").first.wait_for()
        seeds |= set(follow(page, r"seed \d+"))
    assert page.get_by_label("Seed", exact=True).input_value() == ""
    assert len({text for text in seeds if text.startswith("seed ")}) == 2


@pytest.mark.large
def test_draw_cancel_edit_and_reload(page):
    click(page, "Draw")
    seen = follow(page, r"seed \d+")
    assert sum(text.startswith("step ") for text in seen) >= 3
    images = page.locator(".ksd-gallery img")
    images.first.wait_for()
    assert images.count() == 4
    caption = page.locator(".ksd-images figcaption").nth(2)
    assert caption.inner_text() == "<b>{{x}} ${y}"
    # Cancelled: what is shown stays, and no image is added.
    page.get_by_label("number input for Steps").fill("512")
    click(page, "Draw")
    follow(page, r"step \d+ of 512")
    click(page, "Cancel")
    page.wait_for_timeout(1000)
    assert images.count() == 4
    # The settings of an image, and the image in the editor.
    page.get_by_label("number input for Steps").fill("10")
    images.nth(1).click()
    page.locator(".json-holder").get_by_text('"generate"').wait_for()
    click(page, "Edit this image")
    canvas = page.locator(".ksd-editor canvas").first
    canvas.wait_for()
    page.wait_for_timeout(2000)
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=10)
    page.mouse.up()
    click(page, "Draw the painted part")
    follow(page, r"step \d+ of 10")
    page.wait_for_function(
        "document.querySelectorAll('.ksd-gallery img').length >= 8"
    )
    assert page.errors == []
    page.reload()
    page.get_by_role("button", name="Draw", exact=True).wait_for()
    page.errors.clear()  # Of streams that the reload has ended.
    click(page, "Draw")
    follow(page, r"seed \d+")
