"""The page of the app: its parts, and what they do when they are used."""

import dataclasses
import functools
import html
import inspect

import numpy as np
from PIL import Image

from keras_simple_diffusion import samplers
from keras_simple_diffusion.app import limits
from keras_simple_diffusion.app import markup
from keras_simple_diffusion.app import noise
from keras_simple_diffusion.app.drawing import MAX_STEPS
from keras_simple_diffusion.app.drawing import MAX_TEXT
from keras_simple_diffusion.app.drawing import SAMPLERS
from keras_simple_diffusion.app.drawing import Settings
from keras_simple_diffusion.app.runs import plots_of
from keras_simple_diffusion.generation.programs import DrawingStep
from keras_simple_diffusion.utils.errors import InputError

_NAMES = [field.name for field in dataclasses.fields(Settings)]
_LEVELS = 20  # Noise levels of the slider.
_SECONDS = 10  # Between two looks at runs.


class Page:
    """The page, and the functions that its buttons call.

    Each function receives all that it works on as arguments: the settings on
    the visitor's own page, and the visitor's own images.

    Args:
        gr: the module of Gradio.
        studio: a `Studio`.
        runs: `Runs`.
        history: path of the `history.csv` of the model's run, or `None`.
    """

    def __init__(self, gr, studio, runs, history=None):
        self.gr = gr
        self.studio = studio
        self.runs = runs
        self.history = history
        self.controls = []

    def build(self):
        """Return the page as `gradio.Blocks`."""
        gr = self.gr
        title = f"{self.studio.name} · keras-simple-diffusion"
        with gr.Blocks(
            title=title,
            analytics_enabled=False,
            delete_cache=(limits.HOUR, limits.HOUR),
        ) as page:
            self.drawn = gr.State([], time_to_live=limits.HOUR)
            self.selected = gr.State(None, time_to_live=limits.HOUR)
            self.source = gr.State(None, time_to_live=limits.HOUR)
            gr.Markdown(self._describe())
            with gr.Row():
                with gr.Column(scale=1, min_width=280) as self.settings:
                    self._build_settings()
                with gr.Column(scale=3, min_width=320):
                    with gr.Tabs() as self.tabs:
                        with gr.Tab("Draw", id="draw") as draw_tab:
                            self._build_draw()
                        with gr.Tab("Edit", id="edit") as edit_tab:
                            self._build_edit()
                        with gr.Tab("Look inside", id="inside") as inside_tab:
                            self._build_inside()
                        with gr.Tab("Runs", id="runs") as runs_tab:
                            self._build_runs()
                    with gr.Column() as self.results:
                        self._build_results()
            self._connect()
            for tab in (draw_tab, edit_tab, inside_tab, runs_tab):
                self._show_settings(tab, tab is not runs_tab)
        page.queue(max_size=limits.MAX_WAITING, default_concurrency_limit=4)
        return page

    # === Parts ===

    def _describe(self):
        backbone = self.studio.task.backbone
        height, width, _ = backbone.image_shape
        number = f"{backbone.count_params() / 1e6:.1f} million parameters"
        return (
            f"## {html.escape(self.studio.name)}\n{type(backbone).__name__}, "
            f"{number}, {height} × {width} pixels"
        )

    def _build_settings(self):
        gr, task = self.gr, self.studio.task
        num_classes = task.backbone.num_classes
        names = task.class_names if num_classes else None
        names = names or list(map(str, range(num_classes or 0)))
        is_guided = self.studio.takes_text or num_classes is not None
        parts = {
            "classes": gr.Dropdown(
                [(name, i) for i, name in enumerate(names)],
                value=[],
                multiselect=True,
                label="Classes, drawn in turn",
                info="none is all of them",
                visible=bool(names),
            ),
            "prompt": gr.Textbox(
                label="Prompt",
                max_length=MAX_TEXT,
                visible=self.studio.takes_text,
            ),
            "negative_prompt": gr.Textbox(
                label="Negative prompt",
                max_length=MAX_TEXT,
                visible=self.studio.takes_text,
            ),
        }
        with gr.Row():
            parts["count"] = gr.Slider(
                *(1, self.studio.max_images),
                value=min(4, self.studio.max_images),
                step=1,
                label="Images",
                min_width=120,
            )
            parts["seed"] = gr.Number(
                value=None,
                label="Seed",
                placeholder="random",
                min_width=120,
            )
        parts["steps"] = gr.Slider(
            *(1, MAX_STEPS),
            value=min(task.num_steps, MAX_STEPS),
            step=1,
            label="Steps",
            interactive=task.distilled_steps is None,
        )
        parts["guidance"] = gr.Slider(
            *(0, 10),
            value=task.guidance_scale,
            step=0.1,
            label="Guidance",
            info="1 is none",
            visible=is_guided and task.distilled_steps is None,
        )
        with gr.Accordion("More", open=False):
            with gr.Row(visible=is_guided):
                for name, text in (("low", "from"), ("high", "to")):
                    parts[name] = gr.Number(
                        value=None,
                        label=f"Guide {text} log-SNR",
                        placeholder="no limit",
                        min_width=120,
                    )
            own = samplers.identify(task.sampler)
            parts["sampler"] = gr.Dropdown(
                [(f"the model's ({own})", ""), *((s, s) for s in SAMPLERS)],
                value="",
                label="Sampler",
            )
            parts["first"] = gr.Number(
                value=0,
                label="Number of the first image of the seed",
            )
        self.controls = [parts[name] for name in _NAMES]

    def _build_draw(self):
        gr = self.gr
        with gr.Row():
            self.draw = gr.Button("Draw", variant="primary", min_width=100)
            self.cancel = gr.Button("Cancel", min_width=100)
        self.preview = gr.HTML(markup.images([]), min_height=150)

    def _build_edit(self):
        gr = self.gr
        image = self.studio.task.backbone.image_shape
        height, width, _ = markup.enlarge(np.zeros(image, "uint8")).shape
        with gr.Row():
            self.upload = gr.UploadButton(
                "Upload an image", file_types=["image"], min_width=120
            )
            self.take = gr.Button("Take the selected image", min_width=120)
        self.editor = gr.ImageEditor(
            label="Paint over what is to be drawn anew",
            sources=(),
            transforms=(),
            layers=False,
            brush=gr.Brush(
                default_size=height // 8,
                colors=["#ff3b30"],
                color_mode="fixed",
            ),
            canvas_size=(width, height),
            fixed_canvas=True,
            height=height + 120,
            elem_classes="ksd-editor",
        )
        with gr.Row():
            self.inpaint = gr.Button(
                "Draw the painted part", variant="primary", min_width=120
            )
            self.cancel_edit = gr.Button("Cancel", min_width=100)
        with gr.Row():
            self.strength = gr.Slider(
                *(0, 1),
                value=0.6,
                label="Strength",
                info="0 keeps the image, 1 forgets it",
                min_width=160,
            )
            self.vary = gr.Button("Variations", min_width=120)
        with gr.Row(visible=bool(self.studio.factors)):
            self.factor = gr.Dropdown(
                self.studio.factors,
                value=(self.studio.factors or [None])[0],
                label="Make smaller, then upscale, by",
                min_width=160,
            )
            self.upscale = gr.Button("Upscale", min_width=120)
        with gr.Row():
            self.starts_with_image = gr.Checkbox(
                label="Begin with the image above", min_width=120
            )
            self.from_seed, self.to_seed = (
                gr.Number(value=value, label=text, min_width=90)
                for value, text in ((1, "From seed"), (2, "To seed"))
            )
            self.interpolate = gr.Button("Film strip", min_width=120)
        self.edit_preview = gr.HTML(markup.images([]))

    def _build_inside(self):
        gr = self.gr
        self.time = gr.Slider(
            *(0, 1),
            value=0.5,
            step=1 / _LEVELS,
            label="Time: 0 is the image, 1 is noise",
        )
        self.inside = gr.HTML(
            "<p>Select a drawn image, or take one in Edit, then move the "
            "slider.</p>"
        )
        self.schedule = gr.HTML(
            markup.plot(noise.draw_schedule(self.studio.task, 0.5))
        )
        if self.history is not None:
            gr.Markdown("### Loss of the run")
            plots = "".join(f"<div>{p}</div>" for p in plots_of(self.history))
            gr.HTML(f'<div class="ksd-columns">{plots}</div>')

    def _build_runs(self):
        gr = self.gr
        with gr.Row():
            self.names = gr.Dropdown(
                self.runs.names(), multiselect=True, label="Runs", scale=4
            )
            self.reload = gr.Button("Load the list", min_width=120, scale=1)
        self.losses = gr.HTML(
            "<p>Choose runs to compare.</p>"
            if self.runs.folder
            else "<p>Start the app with --runs FOLDER to see runs.</p>"
        )
        self.sheets = gr.Gallery(
            label="Samples over time",
            columns=3,
            height="auto",
            object_fit="contain",
            interactive=False,
        )
        self.table = gr.Dataframe(
            headers=["setting"], label="Settings", interactive=False, wrap=True
        )
        self.timer = gr.Timer(_SECONDS, active=False)

    def _build_results(self):
        gr = self.gr
        self.gallery = gr.Gallery(
            label="Drawn images",
            columns=6,
            height="auto",
            object_fit="contain",
            interactive=False,
            elem_classes="ksd-gallery",
            buttons=[],
        )
        with gr.Row():
            self.again = gr.Button("Again with this seed", min_width=120)
            self.edit_this = gr.Button("Edit this image", min_width=120)
            self.download = gr.DownloadButton(
                "Download with settings", interactive=False, min_width=120
            )
        self.recorded = gr.JSON(label="Settings of the selected image")

    # === Events ===

    def _connect(self):
        gr = self.gr
        controls, drawn = self.controls, self.drawn
        shown = [self.gallery, drawn]
        draw = self._draws(
            self.draw, self.on_draw, controls, [self.preview, *shown]
        )
        edits = [
            self._draws(
                button, function, [*own, *controls], [self.edit_preview, *shown]
            )
            for button, function, own in (
                (self.inpaint, self.on_inpaint, [self.editor, self.source]),
                (self.vary, self.on_vary, [self.strength, self.source]),
                (self.upscale, self.on_upscale, [self.factor, self.source]),
                (
                    self.interpolate,
                    self.on_interpolate,
                    [
                        *(self.starts_with_image, self.from_seed),
                        *(self.to_seed, self.source),
                    ],
                ),
            )
        ]

        def select(drawn, at: gr.SelectData):
            return self.on_select(drawn, at.index)

        self._calls(
            self.gallery.select,
            select,
            [drawn],
            [self.selected, self.recorded, self.download],
        )
        again = self._calls(
            self.again.click, self.on_again, [self.selected], controls
        )
        again = self._draws(
            again, self.on_draw, controls, [self.preview, *shown], "redraw"
        )
        self.cancel.click(None, cancels=[draw, again])
        self.cancel_edit.click(None, cancels=edits)
        self._calls(
            self.upload.upload,
            self.on_upload,
            [self.upload],
            [self.source, self.editor],
        )
        for button in (self.take, self.edit_this):
            self._calls(
                button.click,
                self.on_take,
                [self.selected],
                [self.source, self.editor, self.tabs],
            )
        looked = [self.time, self.selected, self.source, *controls]
        self._calls(
            self.time.release,
            self.on_look,
            looked,
            [self.inside, self.schedule],
            concurrency_id="drawing",
        )
        self._calls(self.reload.click, self.on_list, [], [self.names])
        self._calls(
            self.names.change,
            self.on_compare,
            [self.names],
            [self.losses, self.sheets, self.table, self.timer],
        )
        self._calls(
            self.timer.tick,
            self.on_tick,
            [self.names],
            [self.losses],
            show_progress="hidden",
        )

    def _draws(self, button, function, inputs, outputs, name=None):
        """Connect a button to a drawing, which waits in the queue."""
        listen = button.click if hasattr(button, "click") else button.success
        return self._calls(
            listen,
            function,
            [self.drawn, *inputs],
            outputs,
            **({"api_name": name} if name else {}),
            concurrency_id="drawing",
            concurrency_limit=self.studio.at_once,
            show_progress="minimal",
        )

    def _calls(self, listen, function, inputs, outputs, **options):
        """Connect an event to a function whose `InputError`s are shown."""
        name = function.__name__.removeprefix("on_")
        options = {
            "api_name": name,
            "api_visibility": "undocumented",
            **options,
        }
        function = _shows_errors(self.gr, function)
        return listen(function, inputs, outputs, **options)

    def _show_settings(self, tab, is_shown):
        gr = self.gr

        def show():
            return gr.Column(visible=is_shown), gr.Column(visible=is_shown)

        tab.select(
            show,
            outputs=[self.settings, self.results],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    # === What happens ===

    def on_draw(self, drawn, *controls):
        """Draw images from noise."""
        events = self.studio.generate(_settings(controls))
        yield from self._follow(events, drawn, controls)

    def on_inpaint(self, drawn, painted, source, *controls):
        """Draw the painted part of an image anew."""
        mask = _read_mask(painted, _need(source).shape)
        events = self.studio.inpaint(_settings(controls), source, mask)
        yield from self._follow(events, drawn, controls)

    def on_vary(self, drawn, strength, source, *controls):
        """Make variations of an image."""
        events = self.studio.vary(_settings(controls), _need(source), strength)
        yield from self._follow(events, drawn, controls)

    def on_upscale(self, drawn, factor, source, *controls):
        """Make an image smaller, and larger again."""
        events = self.studio.upscale(_settings(controls), _need(source), factor)
        yield from self._follow(events, drawn, controls)

    def on_interpolate(
        self, drawn, has_image, first, second, source, *controls
    ):
        """Draw a film strip between two seeds, or an image and a seed."""
        ends = _need(source) if has_image else _whole(first), _whole(second)
        events = self.studio.interpolate(_settings(controls), *ends)
        yield from self._follow(events, drawn, controls, is_strip=True)

    def _follow(self, events, drawn, controls, is_strip=False):
        skip = self.gr.skip()
        yield "<p>Waiting for the model …</p>", skip, skip
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

    def on_select(self, drawn, index):
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
        return chosen, recorded, download

    def on_again(self, chosen):
        """Take over the settings of an image."""
        chosen = _need(chosen).settings
        values = dataclasses.asdict(chosen)
        return [
            (values[name] or "") if name == "sampler" else values[name]
            for name in _NAMES
        ]

    def on_upload(self, path):
        """Read an uploaded image."""
        shape = self.studio.task.backbone.image_shape
        image = limits.read_upload(path, shape)
        return image, _canvas(image)

    def on_take(self, chosen):
        """Take a drawn image to edit it."""
        image = _need(chosen).image
        return image, _canvas(image), self.gr.Tabs(selected="edit")

    def on_look(self, time, chosen, source, *controls):
        """Show an image noised to a level, and what is predicted from it."""
        task = self.studio.task
        schedule = markup.plot(noise.draw_schedule(task, float(time)))
        image = source if chosen is None else chosen.image
        if image is None:
            return self.gr.skip(), schedule
        settings = dataclasses.replace(_settings(controls), count=1)
        if chosen is not None:
            settings = chosen.settings
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

    def on_list(self):
        """List the runs that there are now."""
        return self.gr.Dropdown(choices=self.runs.names())

    def on_tick(self, names):
        """Draw the losses of the chosen runs again."""
        return self.runs.losses(names)

    def on_compare(self, names):
        """Show runs side by side."""
        gr = self.gr
        rows = self.runs.settings(names)
        table = gr.Dataframe(rows, headers=["setting", *(names or [])])
        timer = gr.Timer(active=bool(names))
        return self.runs.losses(names), self.runs.samples(names), table, timer


def _settings(controls):
    """Turn the values of the controls, which anyone may send, to `Settings`."""
    values = dict(zip(_NAMES, controls, strict=True))
    for name in ("count", "seed", "steps", "first"):
        values[name] = _whole(values[name])
    values["first"] = values["first"] or 0
    values["sampler"] = values["sampler"] or None
    return Settings(**values)


def _whole(value):
    """Return a float without a fraction as an int."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


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


def _shows_errors(gr, function):
    """Wrap a function so that its `InputError` is a message on the page."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args):
            try:
                yield from function(*args)
            except InputError as error:
                raise gr.Error(str(error), print_exception=False) from error

    else:

        @functools.wraps(function)
        def wrapper(*args):
            try:
                return function(*args)
            except InputError as error:
                raise gr.Error(str(error), print_exception=False) from error

    return wrapper
