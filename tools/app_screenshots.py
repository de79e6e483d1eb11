"""Take the screenshots of the app in the documentation.

    keras-simple-diffusion app --model emoji --port 7860
    python tools/app_screenshots.py http://127.0.0.1:7860/ docs

They show the page of a model of texts on a wide screen while images are
denoised, and on a narrow one with a part of an image painted over. It needs
`pip install playwright`, and Chromium.
"""

import argparse
import pathlib
import re
import shutil

import PIL.Image
from playwright.sync_api import sync_playwright


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        page = open_page(browser, args.url, 1280)
        draw(page, "woman farmer", 4, seed=1)
        wait_for(page, "seed 1")
        page.locator(".ksd-gallery img").first.wait_for()
        draw(page, "man astronaut", 8, seed=3)
        wait_for(page, re.compile("step [1-3] of 4"))
        save(page, args.folder / "app_draw.png")
        page = open_page(browser, args.url, 400)
        draw(page, "man astronaut", 2, seed=3)
        wait_for(page, "seed 3")
        page.locator(".ksd-gallery img").nth(1).click()
        press(page, "Edit this image")
        paint(page)
        save(page, args.folder / "app_edit_400.png")
        browser.close()


def open_page(browser, url, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(600_000)
    page.goto(url)
    return page


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def draw(page, prompt, count, seed):
    """Fill the controls in, and begin to draw."""
    values = {
        "Prompt": prompt,
        "number input for Images": str(count),
        "Seed": str(seed),
    }
    for label, value in values.items():
        control = page.get_by_label(label, exact=True)
        control.fill(value)
        control.press("Tab")
    press(page, "Draw")


def wait_for(page, text):
    page.locator(".prose p").filter(has_text=text).first.wait_for()


def paint(page):
    """Paint a stroke over the image in the editor."""
    canvas = page.locator(".ksd-editor canvas").first
    canvas.wait_for()
    page.wait_for_timeout(5000)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 50, y)
    page.mouse.down()
    page.mouse.move(x + 50, y + 30, steps=10)
    page.mouse.up()
    page.wait_for_timeout(2000)


def save(page, path):
    """Save what is seen, with 256 colors."""
    page.screenshot(path=path)
    with PIL.Image.open(path) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
