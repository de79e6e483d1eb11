"""The page of the app: its parts, and the actions that they start."""

import functools
import html
import inspect

import numpy as np

from keras_simple_diffusion import samplers
from keras_simple_diffusion.app import limits
from keras_simple_diffusion.app import markup
from keras_simple_diffusion.app import noise
from keras_simple_diffusion.app.actions import MAX_DIGITS
from keras_simple_diffusion.app.actions import NAMES
from keras_simple_diffusion.app.actions import Actions
from keras_simple_diffusion.app.drawing import MAX_STEPS
from keras_simple_diffusion.app.drawing import MAX_TEXT
from keras_simple_diffusion.app.drawing import SAMPLERS
from keras_simple_diffusion.app.runs import plots_of
from keras_simple_diffusion.generation.arguments import can_guide
from keras_simple_diffusion.utils.errors import InputError

_LEVELS = 20  # Noise levels of the slider.
_SECONDS = 10  # Between two looks at runs.


class Page:
    """The page: its parts, connected to `Actions`.

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
        self.actions = Actions(gr, studio, runs)
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
            self.latest = gr.State(None, time_to_live=limits.HOUR)
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
        is_guided = can_guide(task)
        scales = (0, 10) if is_guided else None
        if task.distilled_steps is not None:
            # Its network is guided, by a scale that it takes, or was taught.
            is_guided, scales = False, task.backbone.guidance_range
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
                visible=self.studio.takes_text and is_guided,
            ),
        }
        parts["count"] = gr.Slider(
            *(1, self.studio.max_images),
            value=min(4, self.studio.max_images),
            step=1,
            label="Images",
        )
        parts["seed"] = self._optional_number("Seed", "random")
        parts["steps"] = gr.Slider(
            *(1, MAX_STEPS),
            value=min(task.num_steps, MAX_STEPS),
            step=1,
            label="Steps",
            info=task.distilled_steps and "those it was distilled for",
            interactive=task.distilled_steps is None,
        )
        parts["guidance"] = gr.Slider(
            *(scales or (0, 10)),
            value=task.guidance_scale,
            step=0.1,
            label="Guidance",
            info="1 is none",
            visible=scales is not None,
        )
        with gr.Accordion("More", open=False):
            with gr.Row(visible=is_guided):
                for name, text in (("low", "from"), ("high", "to")):
                    parts[name] = self._optional_number(
                        f"Guide {text} log-SNR", "no limit"
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
        self.controls = [parts[name] for name in NAMES]

    def _optional_number(self, label, placeholder):
        """Return a box for a number, or nothing: Gradio's puts a 0 there."""
        return self.gr.Textbox(
            label=label,
            placeholder=placeholder,
            max_length=MAX_DIGITS,
            max_lines=1,
            min_width=120,
        )

    def _build_draw(self):
        gr = self.gr
        with gr.Row():
            self.draw = gr.Button("Draw", variant="primary", min_width=100)
            self.cancel = gr.Button("Cancel", min_width=100)
        self.preview = gr.HTML(
            "<p>Images appear here while they are denoised.</p>",
            min_height=150,
        )

    def _build_edit(self):
        gr = self.gr
        image = self.studio.task.backbone.image_shape
        height, width, _ = markup.enlarge(np.zeros(image, "uint8")).shape
        with gr.Row():
            self.upload = gr.UploadButton(
                "Upload an image", file_types=["image"], min_width=200
            )
            self.take = gr.Button("Take the selected image", min_width=200)
        self.editor = gr.ImageEditor(
            label="Paint to redraw",
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
        # Programs may send layers that are no images, and images to keep for
        # ever, which the page does not.
        self.editor.accept_blobs = None
        self.editor.preprocess = _shows_errors(
            gr, limits.reading_images()(self.editor.preprocess)
        )
        with gr.Row(equal_height=True):
            self.inpaint = gr.Button(
                "Draw the painted part", variant="primary", min_width=120
            )
            self.cancel_edit = gr.Button("Cancel", min_width=100)
        with gr.Row(elem_classes="ksd-row"):
            self.strength = gr.Slider(
                *(0, 1),
                value=0.6,
                label="Strength",
                info="0 keeps the image, 1 forgets it",
                min_width=160,
            )
            self.vary = gr.Button("Variations", min_width=120)
        with gr.Row(visible=bool(self.studio.factors), elem_classes="ksd-row"):
            self.factor = gr.Dropdown(
                self.studio.factors,
                value=(self.studio.factors or [None])[0],
                label="Make smaller, then upscale, by",
                min_width=160,
            )
            self.upscale = gr.Button("Upscale", min_width=120)
        self.starts_with_image = gr.Checkbox(
            label="Begin the film strip with the image above"
        )
        with gr.Row(elem_classes="ksd-row"):
            self.from_seed, self.to_seed = (
                gr.Number(value=value, label=text, min_width=110)
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
            "<p>Select a drawn image, or upload one in Edit, then move the "
            "slider.</p>"
        )
        self.schedule = gr.HTML(
            markup.columns(noise.draw_schedule(self.studio.task, 0.5))
        )
        if self.history is not None:
            gr.Markdown("### Loss of the run")
            gr.HTML(markup.columns(plots_of(self.history)))

    def _build_runs(self):
        gr = self.gr
        with gr.Row():
            self.names = gr.Dropdown(
                self.runs.names(), multiselect=True, label="Runs", scale=4
            )
            self.reload = gr.Button("Reload", min_width=90, scale=1)
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
            visible=False,
            elem_classes="ksd-sheets",
        )
        self.table = gr.Dataframe(
            headers=["setting"],
            label="Settings",
            interactive=False,
            wrap=True,
            visible=False,
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
            self.again = gr.Button("Again with this seed", min_width=200)
            self.edit_this = gr.Button("Edit this image", min_width=200)
            self.download = gr.DownloadButton(
                "Download with settings", interactive=False, min_width=200
            )
        self.recorded = gr.JSON(label="Settings of the selected image")

    # === Events ===

    def _connect(self):
        gr, actions = self.gr, self.actions
        controls, drawn = self.controls, self.drawn
        shown = [self.gallery, drawn]
        draw = self._draws(
            self.draw, actions.draw, controls, [self.preview, *shown]
        )
        edits = [
            self._draws(
                button, function, [*own, *controls], [self.edit_preview, *shown]
            )
            for button, function, own in (
                (self.inpaint, actions.inpaint, [self.editor, self.source]),
                (self.vary, actions.vary, [self.strength, self.source]),
                (self.upscale, actions.upscale, [self.factor, self.source]),
                (
                    self.interpolate,
                    actions.interpolate,
                    [
                        *(self.starts_with_image, self.from_seed),
                        *(self.to_seed, self.source),
                    ],
                ),
            )
        ]

        def select(drawn, at: gr.SelectData):
            return actions.select(drawn, at.index)

        self._calls(
            self.gallery.select,
            select,
            [drawn],
            [self.selected, self.latest, self.recorded, self.download],
        )
        again = self._calls(
            self.again.click, actions.again, [self.selected], controls
        )
        again = self._draws(
            again, actions.draw, controls, [self.preview, *shown], "redraw"
        )
        self.cancel.click(None, cancels=[draw, again])
        self.cancel_edit.click(None, cancels=edits)
        self._calls(
            self.upload.upload,
            actions.upload,
            [self.upload],
            [self.source, self.latest, self.editor],
        )
        for button in (self.take, self.edit_this):
            self._calls(
                button.click,
                actions.take,
                [self.selected],
                [self.source, self.latest, self.editor, self.tabs],
            )
        self._calls(
            self.time.release,
            actions.look,
            [self.time, self.latest, *controls],
            [self.inside, self.schedule],
            concurrency_id="drawing",
            show_progress="minimal",
        )
        self._calls(self.reload.click, actions.list_runs, [], [self.names])
        self._calls(
            self.names.change,
            actions.compare,
            [self.names],
            [self.losses, self.sheets, self.table, self.timer],
        )
        self._calls(
            self.timer.tick,
            actions.tick,
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
        options = {
            "api_name": function.__name__,
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
