"""The course of a run: start, resumption, and the training itself."""

import contextlib
import dataclasses
import json

import keras

from keras_simple_diffusion.backend.native import backend_name
from keras_simple_diffusion.backend.native import device_name
from keras_simple_diffusion.backend.native import num_devices
from keras_simple_diffusion.distribution.processes import check_agreement
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.distribution.strategies import distribute
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.training import lifecycle
from keras_simple_diffusion.training import planning
from keras_simple_diffusion.training import plots
from keras_simple_diffusion.training import reporting
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.training.folder import RunFolder
from keras_simple_diffusion.training.lifecycle import result_warnings
from keras_simple_diffusion.training.page import Page
from keras_simple_diffusion.training.page import write_page
from keras_simple_diffusion.training.progress import Progress
from keras_simple_diffusion.training.snapshots import PROFILES
from keras_simple_diffusion.training.snapshots import Snapshots
from keras_simple_diffusion.training.watch import Watch
from keras_simple_diffusion.utils import terminal
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
_MIN_SAMPLES = 16


def say(text):
    """Print a text in the main process."""
    if is_main_process():
        terminal.say(text)


def distributed(settings, preset):
    """Context in which a run is distributed as its settings say.

    Args:
        settings: `RunSettings`.
        preset: the `keras_simple_diffusion.models.Preset` of its network.
    """
    if settings.distribution is None:
        return contextlib.nullcontext()
    return distribute(settings.distribution, preset.backbone_class)


class Run:
    """A run in this process: folder, images, trainer and position.

    The trainer is any `DenoisingTrainer`: a model, or a distillation of one.
    Call `start` or `restore`, then `train`.

    Args:
        output: path of the run folder.
        settings: `RunSettings`, without `facts` for a new run.
        images: `RunImages`.
        build: function without arguments that returns the trainer, not yet
            compiled. It is called after the run's seed is set.
    """

    def __init__(self, output, settings, images, build):
        recipe = settings.recipe
        self.settings = settings
        self.images = images
        self.is_main = is_main_process()
        self.folder = RunFolder(output, settings.keep)
        reporting.check_loggers(settings.log)
        check_agreement(
            f"The images of '{settings.data}'", json.dumps(images.facts())
        )
        if settings.facts:  # Other data would make another model.
            images.check_unchanged(self.folder.path)
        keras.utils.set_random_seed(settings.seed)
        self.trainer = build()
        if not settings.facts:
            facts = setup.collect_facts(self.trainer, images)
            self.settings = dataclasses.replace(settings, facts=facts)
        self.position = lifecycle.Position(batches_per_step=recipe.accumulate)
        interval = min(recipe.steps // _NUM_INTERVALS, _MAX_INTERVAL)
        self.interval = max(1, interval)
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
        dtype = self.trainer.backbone.dtype_policy.compute_dtype
        macs = count_macs(self.trainer.backbone)
        self.measurements = reporting.Measurements(
            self.position,
            recipe.batch_size,
            2 * self.trainer.num_passes * sum(macs.values()),
            device_name() if "16" in dtype else None,
            1 if settings.distribution is None else num_devices(),
        )
        self._compile()
        self._describe()
        # Before a restoration, as a student's steps may change in training.
        model = self.trainer.finished_model()
        self.num_samples = max(
            self._count_samples(
                model, _SHARE_OF_SAMPLES, reporting.LARGEST_SHEET
            ),
            _MIN_SAMPLES,
        )
        self.num_previews = self._count_samples(
            model, _SHARE_OF_PREVIEW, _MAX_PREVIEW
        )

    def start(self, sheets=None):
        """Save a new run, which can be resumed from then on.

        Args:
            sheets: dict from names to functions that write a sheet of images
                to a path, see `draw_beside`. They are shown beside the run's
                own sheets. Defaults to none.
        """
        self._save()
        for name, save in (sheets or {}).items():
            if self.is_main:
                self._write(self.folder.samples / f"{name}.png", save)
        self.folder.write_settings(self.settings)

    def restore(self):
        """Restore the latest checkpoint."""
        self.partial_metrics = self.folder.restore(
            self.trainer, self.position, self.interval
        )
        if self.position.step > self.settings.recipe.steps:
            raise InputError(
                f"The run '{self.folder.path}' has done {self.position.step} "
                "steps already. Received: steps="
                f"{self.settings.recipe.steps}. Give more, or none."
            )
        wait_for_all()  # Reading ends before the main process writes.
        say(f"going on from step {self.position.step}")
        self.folder.write_settings(self.settings)

    def train(self):
        """Train from where the run stands to its end; return the model."""
        if self.counter.is_at_end:
            say(f"nothing is trained: {self.counter.describe_end()}")
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
        say("drawing samples ...")
        model = self.trainer.finished_model()
        save = self._draw(model, self.num_samples, self.position.step)
        self._write_results({"samples.png": save})
        return model

    def _continue_with(self, recipe):
        """Train from the last checkpoint to the end of a shorter recipe."""
        say(
            f"slower than planned: {recipe.steps:,} steps instead of "
            f"{self.settings.recipe.steps:,}; the learning rate falls from now"
        )
        settings = dataclasses.replace(self.settings, recipe=recipe)
        images = self.images.with_settings(settings)
        run = Run(self.folder.path, settings, images, lambda: self.trainer)
        run.restore()
        return run.train()

    def draw_beside(self, model, name):
        """Draw a sheet of another model, for a comparison with the run's own.

        Its images have the noise and the conditions of the sheet at the end
        of the run, or of those before if as many would take too long.

        Args:
            model: a `DiffusionModel` or `TextToImage`.
            name: string. Name of the model, for the file.

        Returns:
            A function that saves the sheet to a path.
        """
        count = self.num_samples
        if self._count_samples(model, _SHARE_OF_SAMPLES, count) < count:
            count = max(self.num_previews, _MIN_PREVIEW)
        say(f"drawing {count} images of {name} ...")
        return self._draw(model, count, None, name)

    def _draw(self, model, count, step, name=None):
        with Bar("samples", count, is_hidden=not self.is_main):
            return self._draw_quietly(model, count, step, name)

    def _draw_preview(self, model):
        self.watch.check()
        count = max(self.num_previews, _MIN_PREVIEW)
        with self.measurements.paused():
            return self._draw_quietly(model, count, self.position.step)

    def _draw_quietly(self, model, count, step, name=None):
        return reporting.draw_samples(
            model,
            self.settings.seed,
            self.images.prompts,
            count,
            step,
            name or self.folder.path,
            self.images.sizes,
        )

    def _count_samples(self, model, share, most):
        recipe = self.settings.recipe
        num_passes = recipe.steps * recipe.batch_size * self.trainer.num_passes
        return reporting.count_samples(model, num_passes, share, most)

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
            self._write(self.folder.path / name, draw)
        self._write_page(self.position.step)

    def _write(self, path, draw):
        with result_warnings(path), whole_file(path) as draft:
            draw(draft)

    def _write_page(self, step, is_running=False):
        write_page(self.folder, self.settings, step, _NUM_LEVELS, is_running)

    def _compile(self):
        recipe = self.settings.recipe
        average = recipe.ema_decay
        if self.settings.snapshots:
            average = [average, *PROFILES]
        self.trainer.compile(
            recipe.make_optimizer(),
            ema_decay=average,
            evaluate_averages=True,
            watch=True,
            noise_level_bins=_NUM_LEVELS,
        )
        self.trainer.build_optimizer()

    def _describe(self):
        source, backbone = self.images.source, self.trainer.backbone
        kind = "with captions"
        if self.images.prompts is None:
            kind = planning.count_classes(source.class_names)
        say(
            f"{len(source):,} images of "
            f"{' x '.join(str(n) for n in backbone.image_shape)}, {kind}; "
            f"{backbone.count_params():,} parameters; "
            f"{backend_name()} on {device_name()}"
        )
        if self.images.sizes is not None:
            counts = self.images.sizes.items()
            say(f"shapes: {', '.join(f'{n} of {size}' for size, n in counts)}")
        every = self.settings.checkpoint_every
        say(
            "checkpoints after 2 minutes, then every 10, and at the end"
            if every is None
            else f"checkpoints every {every} steps, and at the end"
        )

    def _callbacks(self, progress, saving):
        """List the callbacks, in the order in which Keras calls them.

        The order matters: each group relies on those before it.
        """
        settings, position, folder = self.settings, self.position, self.folder
        recipe = settings.recipe
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
                setup.make_quick_frechet(
                    settings, self.trainer, self.images.prompts
                )
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
        if settings.samples_every or self.num_previews >= _MIN_PREVIEW:
            callbacks.append(
                reporting.Samples(
                    position,
                    folder.samples,
                    self._steps_of_samples(),
                    self._draw_preview,
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
        return range(every, steps + 1, every)

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
        self.trainer.stop_training = False
        if position.step % interval:
            epoch = position.step // interval
            rest = interval - position.step % interval
            self._fit_epochs(callbacks, epoch, epoch + 1, rest)
        first = position.step // interval
        epochs = -(-self.settings.recipe.steps // interval)
        if not self.trainer.stop_training:
            self._fit_epochs(callbacks, first, epochs, interval)

    def _fit_epochs(self, callbacks, first, epochs, steps):
        per_step = self.position.batches_per_step
        batches = self.images.batches(self.position.step * per_step)
        self.measurements.follow(batches)
        try:
            with batches.errors_as_raised():
                self.trainer.fit(
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
        self.folder.save(self.trainer, self.position, self.interval)
