"""Time the first image in the page of the app, from its command on.

    KERAS_BACKEND=torch python benchmarks/app_start.py --model emoji

It starts `keras-simple-diffusion app`, opens its page in headless Chromium as
soon as it answers, and presses Draw. It prints seconds by the clock and of the
processor, of the app and of the browser, until the page is served, until the
first predicted image appears in it, and until the drawing ends. It needs `pip
install playwright`, and Chromium.
"""

import argparse
import os
import shutil
import time

import keras
from app_soak import App
from playwright.sync_api import sync_playwright
from processes import processor_seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="emoji")
    args = parser.parse_args()
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.set_default_timeout(600_000)
        before = processor_seconds()
        started = time.perf_counter()
        print(f"{args.model}, {keras.config.backend()}, {os.cpu_count()} cores")
        print("| until | seconds | processor: app | browser |")
        print("|---|---|---|---|")
        with App(args.model) as app:

            def tell(event):
                seconds = time.perf_counter() - started
                by_app = processor_seconds(app.process.pid)
                others = processor_seconds() - before - by_app
                print(f"| {event} | {seconds:.1f} | {by_app:.1f} ", end="")
                print(f"| {others:.1f} |", flush=True)

            tell("the page is served")
            page.goto(app.url)
            page.get_by_role("button", name="Draw", exact=True).click()
            page.locator(".ksd-images img").first.wait_for()
            tell("the first image is in the page")
            page.locator(".prose p").filter(has_text="seed").first.wait_for()
            tell("the drawing is complete")
        browser.close()


if __name__ == "__main__":
    main()
