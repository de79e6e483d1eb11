"""Training runs: start, resume, and the training itself."""

import contextlib
import dataclasses
import pathlib

import keras

from keras_simple_diffusion.backend.native import backend_name
from keras_simple_diffusion.backend.native import device_name
from keras_simple_diffusion.backend.native import num_devices
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.distribution.strategies import distribute
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training import lifecycle
from keras_simple_diffusion.training import plots
from keras_simple_diffusion.training import reporting
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.training.folder import RunFolder
from keras_simple_diffusion.training.lifecycle import result_warnings
from keras_simple_diffusion.training.page import Page
from keras_simple_diffusion.training.page import write_page
from keras_simple_diffusion.training.planning import output_for
from keras_simple_diffusion.training.planning import plan
from keras_simple_diffusion.training.progress import Progress
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.settings import absolute
from keras_simple_diffusion.training.settings import check_names
from keras_simple_diffusion.training.settings import field_names
from keras_simple_diffusion.training.snapshots import PROFILES
from keras_simple_diffusion.training.snapshots import Snapshots
from keras_simple_diffusion.training.watch import Watch
from keras_simple_diffusion.utils.bars import Bar
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file

# Steps between lines of the log: a fiftieth of the run, 100 at most.
_NUM_INTERVALS = 50
_MAX_INTERVAL = 100
_VALIDATION_INTERVALS = 5
_NUM_LEVELS = 8
# Sheets of samples while training: when, and how much of its time each takes.
_PREVIEWS = (0.1, 0.25, 0.5)
_SHARE_OF_PREVIEW = 0.03
_SHARE_OF_SAMPLES = 0.1
_MIN_PREVIEW, _MAX_PREVIEW = 4, 16
_MIN_SAMPLES, _MAX_SAMPLES = 16, 100


def train_run(
    data,
    output=None,
    preset=None,
    image_size=None,
    *,
    steps=None,
    batch_size=None,
    optimizer=None,
    learning_rate=None,
    beta_1=None,
    beta_2=None,
    epsilon=None,
    weight_decay=None,
    warmup_steps=None,
    clip_norm=None,
    ema_decay=None,
    accumulate=None,
    flip=None,
    cooldown_steps=None,
    dtype=None,
    rematerialize=None,
    stratified=None,
    seed=None,
    initialize_from=None,
    from_scratch=False,
    embeddings=None,
    minutes=None,
    checkpoint_every=None,
    samples_every=None,
    quick_fid=None,
    feature_weights=None,
    keep=None,
    snapshots=None,
    workers=None,
    crop=None,
    distribution=None,
    log=None,
    **unknown,
):
    """Train a network on images, into a run folder.

    Without a preset, `keras_simple_diffusion.training.plan` chooses network
    and recipe, and is printed. With a preset and `minutes`, but without
    `steps`, it chooses the recipe. A preset with weights is finetuned.

    The folder receives `config.json`, `history.csv`, `checkpoints/` (all that
    `resume_run` needs), `preset/` (a preset with the averaged weights),
    `loss.png`, `levels.png` (the loss by noise level), `samples.png`, and
    `index.html`, a page with all of these.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.
        output: path of the run folder, which must be new or empty. Defaults
            to a new folder `runs/NAME`, named after the data.
        preset: string, path or `keras_simple_diffusion.models.Preset` that
            gives network, recipe, weights and defaults of sampling. Defaults
            to the plan's.
        image_size: int or `(height, width)`. Defaults to the preset's, or the
            plan's.
        steps, batch_size, optimizer, learning_rate, beta_1, beta_2, epsilon,
            weight_decay, warmup_steps, clip_norm, ema_decay, accumulate, flip,
            cooldown_steps: see `Recipe`. They default to the preset's recipe,
            or the plan's.
        from_scratch: bool. Start from random weights, not from the preset's.
            Defaults to `False`.
        dtype, rematerialize, stratified: see `RunSettings`. They default to
            the preset's.
        seed, initialize_from, embeddings, minutes, checkpoint_every,
            samples_every, quick_fid, feature_weights, keep, snapshots,
            workers, crop, distribution, log: see `RunSettings`. `None` stands
            for the default there.
        **unknown: raises an `InputError` that suggests the intended name.

    Returns:
        The trained `DiffusionModel` or `TextToImage`.

    Raises:
        InputError: if data, preset or settings are invalid.
        Interrupted: if a signal ended the training; the run is saved.

    Example:
    ```python
    model.save_to_preset("start")  # Or a built-in preset.
    model = keras_simple_diffusion.training.train_run(
        "digits", "runs/digits", "start", steps=2
    )
    ```
    """
    known = {*field_names(Recipe), *field_names(RunSettings)}
    check_names(unknown, sorted(known), "`train_run`")
    options = {
        name: value
        for name, value in locals().items()
        if name in known and value is not None
    }
    folder = RunFolder(output or output_for(data))
    folder.check_is_outside(data)
    folder.check_is_free()
    if from_scratch and initialize_from is not None:
        raise InputError(
            "`from_scratch` asks for random weights, and `initialize_from` for "
            f"those of '{initialize_from}'. Use one of them."
        )
    if initialize_from is not None:
        setup.open_start(initialize_from)
    preset = preset and Preset.open(preset)
    if preset is None or (minutes is not None and steps is None):
        chosen = plan(
            **{**options, "preset": preset}, from_scratch=from_scratch
        )
        _say(chosen)
        options = {**chosen.settings, "plan": chosen.lines}
        preset = preset or Preset.open(options["preset"])
    if preset.has_weights and not from_scratch:
        options.setdefault("initialize_from", preset.name)
    settings = RunSettings.from_preset(preset, options)
    with _distributed(settings, preset):
        run = _Run(folder.path, settings, preset)
        run.initialize()
        with folder.held():  # Nothing is written before this line.
            folder.check_is_free()
            run.start()
            return run.train()


def resume_run(output, steps=None, minutes=None, data=None):
    """Continue a run from its latest checkpoint.

    The result is the same as that of a run without interruption. With a new
    number of `steps` this holds for the weights; the lines of `history.csv`
    may average over other intervals. A run that has reached its end is not
    trained further.

    Args:
        output: path of the run folder.
        steps: int or `None`. New number of steps of the whole run.
        minutes: float or `None`. New maximum training time of the whole run.
        data: string or `None`. New place of the same images.

    Returns:
        The trained `DiffusionModel` or `TextToImage`.

    Raises:
        InputError: if the folder holds no run, its images have changed, or
            all checkpoints are missing or damaged.
        Interrupted: if a signal ended the training; the run is saved.
    """
    folder = RunFolder(output)
    settings = RunSettings.read(output).override(steps, minutes, data)
    place = pathlib.Path(settings.data)
    if place.is_absolute() and not place.exists():
        raise InputError(
            f"The images of the run are no longer at '{place}'. Bring them "
            "back, or pass their new place by --data (in Python `data`)."
        )
    folder.check_entries()
    preset = Preset.open(folder.preset_folder)
    with _distributed(settings, preset), folder.held():
        run = _Run(output, settings, preset)
        run.restore()
        return run.train()


def _say(text):
    if is_main_process():
        print(text)


def _distributed(settings, preset):
    if settings.distribution is None:
        return contextlib.nullcontext()
    return distribute(settings.distribution, preset.backbone_class)


class _Run:
    """A run in this process: folder, images, model and position.

    Call `start` or `restore`, then `train`.
    """

    def __init__(self, output, settings, preset):
        recipe = settings.recipe
        self.settings = settings
        self.preset = preset
        self.is_main = is_main_process()
        self.folder = RunFolder(output, settings.keep)
        reporting.check_loggers(settings.log)
        keras.utils.set_random_seed(settings.seed)
        self.images = setup.RunImages(preset, settings)
        if settings.facts:  # Other data would make another model.
            self.images.check_unchanged(self.folder.path)
        self.model = setup.build_model(preset, self.images, settings)
        self.position = lifecycle.Position(batches_per_step=recipe.accumulate)
        self.interval = max(
            1,
            min(
                recipe.steps // _NUM_INTERVALS,
                _MAX_INTERVAL,
                settings.samples_every or _MAX_INTERVAL,
            ),
        )
        self.counter = lifecycle.Counter(
            self.position, recipe.steps, settings.minutes
        )
        self.pace = None
        if settings.minutes and recipe.cooldown_steps:
            self.pace = lifecycle.Pace(self.position, recipe, settings.minutes)
        self.interruption = lifecycle.Interruption(self.position)
        self.partial_metrics = []
        self.watch = Watch(
            self.position, self.folder.failure, self.images.read_batch
        )
        dtype = self.model.backbone.dtype_policy.compute_dtype
        self.measurements = reporting.Measurements(
            self.position,
            recipe.batch_size,
            sum(count_macs(self.model.backbone).values()),
            device_name() if "16" in dtype else None,
            1 if settings.distribution is None else num_devices(),
        )
        self._compile()
        self._describe()

    def initialize(self):
        """Initialize the weights of a new run."""
        start = self.settings.initialize_from
        if start == absolute(self.preset.name):
            start = self.preset  # It is open already.
        if start is not None:
            _say(setup.initialize(self.model, start))
        facts = setup.collect_facts(self.model, self.images)
        self.settings = dataclasses.replace(self.settings, facts=facts)

    def start(self):
        """Save a new run, which can be resumed from then on."""
        self._save()
        self.folder.write_settings(self.settings)

    def restore(self):
        """Restore the latest checkpoint."""
        self.partial_metrics = self.folder.restore(
            self.model, self.position, self.interval
        )
        if self.position.step > self.settings.recipe.steps:
            raise InputError(
                f"The run '{self.folder.path}' has done {self.position.step} "
                "steps already. Received: --steps "
                f"{self.settings.recipe.steps}. Give more, or none."
            )
        wait_for_all()  # Reading ends before the main process writes.
        _say(f"going on from step {self.position.step}")
        self.folder.write_settings(self.settings)

    def train(self):
        """Train from where the run stands to its end; return the model."""
        if self.counter.is_at_end:
            _say(f"nothing is trained: {self.counter.describe_end()}")
        else:
            saving = lifecycle.Saving(
                self.position,
                self._save,
                self.interval,
                self.settings.checkpoint_every,
            )
            progress = Progress(
                self.position,
                self.settings.recipe.steps,
                self.settings.recipe.batch_size,
                self.settings.minutes,
                self.measurements.share_waited,
                saving,
            )
            with contextlib.closing(progress):
                self._fit(self._callbacks(progress, saving))
        if self.position.signal is not None:
            self._write_results()
            raise lifecycle.Interrupted(
                self.position.signal, self.position.step
            )
        if self.pace and self.pace.shortened:
            return self._continue_with(self.pace.shortened)
        _say("drawing samples ...")
        count = self._count_samples(_SHARE_OF_SAMPLES, _MAX_SAMPLES)
        count = max(count, _MIN_SAMPLES)
        with Bar("samples", count, is_hidden=not self.is_main):
            save = reporting.draw_samples(
                self.model,
                self.settings.seed,
                self.images.prompts,
                count,
                self.position.step,
                self.folder.path,
            )
        self._write_results({"samples.png": save})
        return self.model

    def _continue_with(self, recipe):
        """Train from the last checkpoint to the end of a shorter recipe."""
        _say(
            f"slower than planned: {recipe.steps:,} steps instead of "
            f"{self.settings.recipe.steps:,}; the learning rate falls from now"
        )
        settings = dataclasses.replace(self.settings, recipe=recipe)
        run = _Run(self.folder.path, settings, self.preset)
        run.restore()
        return run.train()

    def _count_samples(self, share, most):
        recipe = self.settings.recipe
        num_images = recipe.steps * recipe.batch_size
        return reporting.count_samples(self.model, num_images, share, most)

    def _write_results(self, results=None):
        """Write plots and page, and further results by name."""
        if not self.is_main:
            return
        history = self.folder.history
        results = {
            **(results or {}),
            "loss.png": lambda path: plots.draw_loss(history, path),
            "levels.png": lambda path: plots.draw_levels(
                history, path, _NUM_LEVELS
            ),
        }
        for name, draw in results.items():
            path = self.folder.path / name
            with result_warnings(path), whole_file(path) as draft:
                draw(draft)
        self._write_page(self.position.step)

    def _write_page(self, step, is_running=False):
        write_page(self.folder, self.settings, step, _NUM_LEVELS, is_running)

    def _compile(self):
        recipe = self.settings.recipe
        average = recipe.ema_decay
        if self.settings.snapshots:
            average = [average, *PROFILES]
        self.model.compile(
            recipe.make_optimizer(),
            ema_decay=average,
            evaluate_averages=True,
            watch=True,
            noise_level_bins=_NUM_LEVELS,
        )
        self.model.optimizer.build(self.model.trainable_variables)

    def _describe(self):
        source, backbone = self.images.source, self.model.backbone
        _say(
            f"{len(source)} images of "
            f"{' x '.join(str(n) for n in backbone.image_shape)}, "
            f"{len(source.class_names or [])} classes; "
            f"{backbone.count_params():,} parameters; "
            f"{backend_name()} on {device_name()}"
        )
        every = self.settings.checkpoint_every
        _say(
            "checkpoints after 2 minutes, then every 10, and at the end"
            if every is None
            else f"checkpoints every {every} steps, and at the end"
        )

    def _callbacks(self, progress, saving):
        """List the callbacks, in the order in which Keras calls them.

        The order matters: each group relies on those before it.
        """
        settings, position, folder = self.settings, self.position, self.folder
        recipe, prompts = settings.recipe, self.images.prompts
        callbacks = [
            # They set the position and the end, which all others read.
            self.counter,
            self.interruption,
            *([self.pace] if self.pace else []),
            lifecycle.RestoringMetrics(self.partial_metrics),
            # They add to the logs of an interval, and stop at values that
            # are not finite before anything is written.
            self.measurements,
            self.watch,
        ]
        if settings.quick_fid:
            callbacks.append(
                setup.make_quick_frechet(settings, self.model, prompts)
            )
        # They write the logs.
        if self.is_main:
            callbacks += [
                progress,
                reporting.History(
                    position,
                    folder.history,
                    self._history_fields(),
                    is_divided=bool(self.partial_metrics),
                ),
                *reporting.make_loggers(settings.log, folder.path),
            ]
        # They write files of their own.
        count = self._count_samples(_SHARE_OF_PREVIEW, _MAX_PREVIEW)
        if settings.samples_every or count >= _MIN_PREVIEW:
            callbacks.append(
                reporting.Samples(
                    position,
                    folder.samples,
                    self._steps_of_samples(),
                    max(count, _MIN_PREVIEW),
                    self.interval,
                    settings.seed,
                    prompts,
                )
            )
        if settings.snapshots:
            callbacks.append(
                Snapshots(
                    position,
                    folder.snapshots,
                    recipe.steps,
                    settings.snapshots,
                    self.interval,
                )
            )
        if self.is_main:
            callbacks.append(
                Page(position, lambda step: self._write_page(step, True))
            )
        # It is last: a checkpoint means that all of the above is done.
        return [*callbacks, saving]

    def _steps_of_samples(self):
        steps, every = self.settings.recipe.steps, self.settings.samples_every
        if every is None:
            return [int(share * steps) for share in _PREVIEWS]
        return list(range(every, steps + 1, every))

    def _history_fields(self):
        fields = ["loss", "val_loss", "gradient_norm", "parameter_norm"]
        fields += ["learning_rate"]
        fields += [f"level_loss_{level}" for level in range(_NUM_LEVELS)]
        fields += ["images_per_second", "waiting", "utilization"]
        return fields + (["quick_fid"] if self.settings.quick_fid else [])

    def _fit(self, callbacks):
        """Train to the end of the run.

        Keras's epochs are the intervals of the log. A partially finished
        interval is completed first, in a `fit` of its own.
        """
        position, interval = self.position, self.interval
        if position.step % interval:
            epoch = position.step // interval
            rest = interval - position.step % interval
            self._fit_epochs(callbacks, epoch, epoch + 1, rest)
        first = position.step // interval
        epochs = -(-self.settings.recipe.steps // interval)
        if not self.model.stop_training:
            self._fit_epochs(callbacks, first, epochs, interval)

    def _fit_epochs(self, callbacks, first, epochs, steps):
        per_step = self.position.batches_per_step
        batches = self.images.batches(self.position.step * per_step)
        self.measurements.follow(batches)
        try:
            with batches.errors_as_raised():
                self.model.fit(
                    batches,
                    initial_epoch=first,
                    steps_per_epoch=steps * per_step,
                    epochs=epochs,
                    validation_data=self.images.validation,
                    validation_batch_size=self.images.validation_size,
                    validation_freq=_VALIDATION_INTERVALS,
                    shuffle=False,  # Grain has shuffled already.
                    callbacks=callbacks,
                    verbose=0,
                )
        finally:
            # After an error Keras does not call `on_train_end`.
            self.interruption.restore()

    def _save(self):
        if self.position.step:  # Before the first step nothing is watched.
            self.watch.check()
        self.folder.save(self.model, self.position, self.interval)

    def _say(self, text):
        if self.is_main:
            print(text)
