"""Actions of the page: what happens when its parts are used."""

import dataclasses
import math

import numpy as np
from PIL import Image

from keras_simple_diffusion.app import limits
from keras_simple_diffusion.app import markup
from keras_simple_diffusion.app import noise
from keras_simple_diffusion.app.drawing import Drawn
from keras_simple_diffusion.app.drawing import Settings
from keras_simple_diffusion.generation.programs import DrawingStep
from keras_simple_diffusion.utils.errors import InputError

# The controls of the page, in the order of their values.
NAMES = [field.name for field in dataclasses.fields(Settings)]
MAX_DIGITS = 25  # Characters of a number in a box.
_BOXES = {
    "seed": "The seed",
    "low": "The lowest log-SNR that is guided",
    "high": "The highest log-SNR that is guided",
}
_EMPTY = (*_BOXES, "sampler")  # Controls that show nothing as "".


class Actions:
    """Functions that the parts of the page call.

    Each receives all that it works on as arguments: the settings on the
    visitor's own page, and the visitor's own images.

    Args:
        gr: the module of Gradio.
        studio: a `Studio`.
        runs: `Runs`.
    """

    def __init__(self, gr, studio, runs):
        self.gr = gr
        self.studio = studio
        self.runs = runs

    def draw(self, drawn, *controls):
        """Draw images from noise."""
        events = self.studio.generate(_settings(controls))
        yield from self._follow(events, drawn)

    def inpaint(self, drawn, painted, source, *controls):
        """Draw the painted part of an image anew."""
        mask = _read_mask(painted, _need(source).shape)
        events = self.studio.inpaint(_settings(controls), source, mask)
        yield from self._follow(events, drawn)

    def vary(self, drawn, strength, source, *controls):
        """Make variations of an image."""
        events = self.studio.vary(_settings(controls), _need(source), strength)
        yield from self._follow(events, drawn)

    def upscale(self, drawn, factor, source, *controls):
        """Make an image smaller, and larger again."""
        events = self.studio.upscale(_settings(controls), _need(source), factor)
        yield from self._follow(events, drawn)

    def interpolate(self, drawn, has_image, first, second, source, *controls):
        """Draw a film strip between two seeds, or an image and a seed."""
        ends = _need(source) if has_image else _whole(first), _whole(second)
        events = self.studio.interpolate(_settings(controls), *ends)
        yield from self._follow(events, drawn, is_strip=True)

    def _follow(self, events, drawn, is_strip=False):
        skip = self.gr.skip()
        yield "<p>Waiting for the model …</p>", skip, skip
        try:
            yield from self._show(events, drawn, is_strip)
        except InputError:
            yield markup.images([]), skip, skip
            raise

    def _show(self, events, drawn, is_strip):
        skip = self.gr.skip()
        for event in events:
            if isinstance(event, DrawingStep):
                text = f"step {event.number} of {event.num_steps}"
                shown = markup.images(event.images, None, text, is_strip)
                yield shown, skip, skip
                continue
            drawn = [*event, *drawn][: limits.MAX_REMEMBERED]
            captions = [each.caption for each in event]
            arrays = [each.image for each in event]
            text = f"seed {event[0].settings.seed}" if not is_strip else ""
            yield (
                markup.images(arrays, captions, text, is_strip),
                [(each.path, each.caption) for each in drawn],
                drawn,
            )

    def select(self, drawn, index):
        """Show the settings of an image of the gallery."""
        if not 0 <= index < len(drawn):
            raise InputError("The image is no longer kept: draw it again.")
        chosen = drawn[index]
        download = self.gr.DownloadButton(value=chosen.path, interactive=True)
        recorded = {
            name: value
            for name, value in chosen.recorded.items()
            if value is not None and name != "model_content"
        }
        return chosen, chosen, recorded, download

    def again(self, chosen):
        """Take over the settings of an image."""
        values = dataclasses.asdict(_select(chosen).settings)
        return [
            "" if value is None and name in _EMPTY else value
            for name, value in values.items()
        ]

    def upload(self, path):
        """Read an uploaded image."""
        shape = self.studio.task.backbone.image_shape
        image = limits.read_upload(path, shape)
        return image, image, _canvas(image)

    def take(self, chosen):
        """Take a drawn image to edit it."""
        image = _select(chosen).image
        return image, chosen, _canvas(image), self.gr.Tabs(selected="edit")

    def look(self, time, latest, *controls):
        """Show an image noised to a level, and what is predicted from it."""
        task = self.studio.task
        schedule = markup.columns(noise.draw_schedule(task, float(time)))
        if latest is None:
            return self.gr.skip(), schedule
        if isinstance(latest, Drawn):
            image, settings = latest.image, latest.settings
        else:
            image = latest
            settings = dataclasses.replace(_settings(controls), count=1)
        settings.check(self.studio.max_images)
        conditions, _, captions = self.studio.choose(settings)
        noisy, clean = noise.denoise(
            task, image, float(time), conditions, settings.seed or 0
        )
        names = ["image", "noised", "predicted from it"]
        text = (
            f"{captions[0]}: differs from the image by "
            f"{noise.error(noisy, image):.1f} grey levels when noised, by "
            f"{noise.error(clean, image):.1f} as predicted"
        ).removeprefix(": ")
        return markup.images([image, noisy, clean], names, text), schedule

    def list_runs(self):
        """List the runs that there are now."""
        return self.gr.Dropdown(choices=self.runs.names())

    def tick(self, names):
        """Draw the losses of the chosen runs again."""
        return self.runs.losses(names)

    def compare(self, names):
        """Show runs side by side."""
        gr = self.gr
        rows = self.runs.settings(names)
        headers = ["setting", *(names or [])]
        sheets = self.runs.samples(names)
        return (
            self.runs.losses(names),
            gr.Gallery(sheets, visible=bool(sheets)),
            gr.Dataframe(rows, headers=headers, visible=bool(names)),
            gr.Timer(active=bool(names)),
        )


def _settings(controls):
    """Turn the values of the controls, which anyone may send, to `Settings`."""
    values = dict(zip(NAMES, controls, strict=True))
    for name in ("seed", "low", "high"):
        values[name] = _number(name, values[name])
    for name in ("count", "seed", "steps", "first"):
        values[name] = _whole(values[name])
    values["first"] = values["first"] or 0
    values["sampler"] = values["sampler"] or None
    return Settings(**values)


def _number(name, text):
    """Return the number in a box of text, `None` if it is empty."""
    text = "" if text is None else str(text).strip()
    if not text:
        return None
    try:
        value = float(text)
        if not math.isfinite(value) or len(text) > MAX_DIGITS:
            raise ValueError
        if name != "seed":
            return value
        # A client may send a whole number as a float.
        is_float = value.is_integer() and abs(value) < 2**53
        return int(value) if is_float else int(text)
    except ValueError:
        kind = "a whole number" if name == "seed" else "a number"
        raise InputError(
            f"{_BOXES[name]} is {kind}, or empty. Received: "
            f"{text[:MAX_DIGITS]!r}"
        ) from None


def _whole(value):
    """Return a float without a fraction as an int."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _select(drawn):
    if drawn is None:
        raise InputError("Select one of the drawn images first.")
    return drawn


def _need(image):
    if image is None:
        raise InputError("Take or upload an image first.")
    return image


def _canvas(image):
    """Return an image for the editor, without anything painted."""
    shown = markup.enlarge(image)
    if shown.shape[-1] == 1:
        shown = np.repeat(shown, 3, axis=-1)
    return {"background": shown, "layers": [], "composite": shown}


def _read_mask(painted, shape):
    """Return the mask of all that is painted over, `(H, W)` of bools."""
    mask = np.zeros(shape[:2], bool)
    for layer in (painted or {}).get("layers") or []:
        opacity = Image.fromarray(np.ascontiguousarray(layer[..., 3]))
        size = (shape[1], shape[0])
        opacity = opacity.resize(size, Image.Resampling.BOX)
        mask |= np.asarray(opacity) > 63
    return mask
