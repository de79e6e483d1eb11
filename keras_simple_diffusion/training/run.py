import contextlib
import dataclasses
import pathlib
import platform

import keras

from keras_simple_diffusion.backend.native import backend_name
from keras_simple_diffusion.backend.native import device_name
from keras_simple_diffusion.backend.native import num_devices
from keras_simple_diffusion.data.pipeline import training_batches
from keras_simple_diffusion.data.sources import keep_decoded
from keras_simple_diffusion.distribution.batches import check_batch_size
from keras_simple_diffusion.distribution.batches import data_shard
from keras_simple_diffusion.distribution.batches import own_share
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.distribution.strategies import distribute
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.checkpoint import RestoringMetrics
from keras_simple_diffusion.training.checkpoint import read_state
from keras_simple_diffusion.training.checkpoint import write_state
from keras_simple_diffusion.training.lifecycle import Counter
from keras_simple_diffusion.training.lifecycle import Interrupted
from keras_simple_diffusion.training.lifecycle import Interruption
from keras_simple_diffusion.training.lifecycle import Position
from keras_simple_diffusion.training.lifecycle import Saving
from keras_simple_diffusion.training.reporting import History
from keras_simple_diffusion.training.reporting import Measurements
from keras_simple_diffusion.training.reporting import Progress
from keras_simple_diffusion.training.reporting import check_loggers
from keras_simple_diffusion.training.reporting import draw_levels
from keras_simple_diffusion.training.reporting import draw_loss
from keras_simple_diffusion.training.reporting import make_loggers
from keras_simple_diffusion.training.samples import Samples
from keras_simple_diffusion.training.samples import draw_samples
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.snapshots import PROFILES
from keras_simple_diffusion.training.snapshots import Snapshots
from keras_simple_diffusion.training.watch import Watch
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import read_json
from keras_simple_diffusion.utils.presets import resolve_preset
from keras_simple_diffusion.version import __version__

# Steps between lines of the log: a fiftieth of the run, 100 at most.
_NUM_INTERVALS = 50
_LONGEST_INTERVAL = 100
_VALIDATION_INTERVALS = 5
_NUM_LEVELS = 8


def train_run(data, output, preset="uvit_small_64", image_size=None, **options):
    """Train a preset's network on images, into a run folder.

    The folder receives `config.json`, `history.csv`, `checkpoints/` (all that
    `resume_run` needs), `preset/` (what `load_model` loads),
    `loss.png`, `levels.png` (the loss by noise level) and `samples.png`.

    Args:
        data: string. `"digits"`, the path of a folder or zip, or `tfds:NAME`.
        output: path of the run folder, which must not hold anything.
        preset: string. Name or folder of the preset that gives network and
            recipe; only its configuration is used. Defaults to
            `"uvit_small_64"`.
        image_size: int or `(height, width)`. Defaults to the preset's.
        **options: fields of `RunSettings` and of its `Recipe`. `None` stands
            for the default, of a recipe's field that of the preset.

    Returns:
        The trained model.

    Raises:
        Interrupted: if a signal ended the training; the run is saved.
    """
    output = pathlib.Path(output)
    is_taken = output.exists() and (
        not output.is_dir() or any(output.iterdir())
    )
    if is_taken and is_main_process():
        raise InputError(
            f"'{output}' holds something already. Choose another --output, or "
            f"go on with the run there: train --resume {output}"
        )
    folder = resolve_preset(preset, load_weights=False)
    shape = read_json(folder, "config.json")["config"]["image_shape"]
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if pathlib.Path(data).exists():
        data = pathlib.Path(data).resolve()  # To resume from anywhere.
    options = {k: v for k, v in options.items() if v is not None}
    if "initialize_from" in options:
        options["initialize_from"] = str(options["initialize_from"])
    if "embeddings" in options:
        options["embeddings"] = str(
            pathlib.Path(options["embeddings"]).resolve()
        )
    own = {field.name for field in dataclasses.fields(RunSettings)}
    changes = {k: v for k, v in options.items() if k not in own}
    settings = RunSettings(
        data=str(data),
        preset=str(preset),
        recipe=setup.read_recipe(folder, changes),
        image_size=list(image_size or shape[:2]),
        **{k: v for k, v in options.items() if k in own},
    )
    return _train(output, settings, folder)


def resume_run(output, steps=None, minutes=None):
    """Go on with a run as if nothing had happened.

    Args:
        output: path of the run folder.
        steps: int or `None`. A new number of steps of the whole run.
        minutes: float or `None`. A new time limit of the whole run.

    Returns:
        The trained model.

    Raises:
        InputError: if that is no run, its images have changed, or no
            checkpoint is whole.
        Interrupted: if a signal ended the training; the run is saved.
    """
    output = pathlib.Path(output)
    settings = RunSettings.read(output).override(steps, minutes)
    return _train(output, settings, str(output / "preset"))


def _train(output, settings, preset):
    with contextlib.ExitStack() as stack:
        if settings.distribution is not None:
            network = setup.network_class(preset)
            stack.enter_context(distribute(settings.distribution, network))
        return _Run(output, settings, preset).train()


class _Run:
    """A run in this process: its model, its images and where it stands."""

    def __init__(self, output, settings, preset):
        recipe = settings.recipe
        self.output = output
        self.settings = settings
        self.is_main = is_main_process()
        self.checkpoints = Checkpoints(output / "checkpoints", settings.keep)
        self.batch_size = recipe.batch_size // recipe.accumulate
        check_batch_size(self.batch_size)
        check_loggers(settings.log)
        keras.utils.set_random_seed(settings.seed)
        self.keys = setup.keys_of(preset, settings)
        self.source, self.validation = setup.open_sources(preset, settings)
        self.examples = self.source
        if not settings.workers:  # Which would keep all of it each.
            self.examples = keep_decoded(self.source)
        self.validation_size = None
        if self.validation is not None:
            share, self.validation_size = own_share(
                self.validation, self.batch_size
            )
            # Fewer images than devices cannot be split.
            self.validation = share if len(share["images"]) else None
        self.model = setup.build_model(preset, self.source, settings)
        self.prompts = None
        if setup.takes_text(preset):
            self.prompts = setup.choose_prompts(self.source)
        self.position = Position(batches_per_step=recipe.accumulate)
        self.interval = max(
            1, min(recipe.steps // _NUM_INTERVALS, _LONGEST_INTERVAL)
        )
        self.watch = Watch(self.position, output / "failure", self._read_batch)
        self.measurements = Measurements(
            self.position,
            recipe.batch_size,
            sum(count_macs(self.model.backbone).values()),
            device_name() if "16" in settings.dtype else None,
            1 if settings.distribution is None else num_devices(),
        )

    def train(self):
        recipe, model = self.settings.recipe, self.model
        average = recipe.ema_decay
        if self.settings.snapshots:
            average = [average, *PROFILES]
        model.compile(
            recipe.make_optimizer(),
            ema_decay=average,
            watch=True,
            noise_level_bins=_NUM_LEVELS,
        )
        model.optimizer.build(model.trainable_variables)
        shape = " x ".join(str(n) for n in model.backbone.image_shape)
        self._say(
            f"{len(self.source)} images of {shape}, "
            f"{len(self.source.class_names or [])} classes; "
            f"{model.backbone.count_params():,} parameters; "
            f"{backend_name()} on {device_name()}"
        )
        restoring = self._begin()
        self._fit([*self._callbacks(), restoring])
        if self.position.signal is not None:
            raise Interrupted(self.position.signal, self.position.step)
        self._say("drawing samples ...")
        sheet = draw_samples(model, self.settings.seed, self.prompts)
        if self.is_main:
            sheet.save(self.output / "samples.png")
            history = self.output / "history.csv"
            draw_loss(history, self.output / "loss.png")
            draw_levels(history, self.output / "levels.png", _NUM_LEVELS)
        return model

    def _begin(self):
        """Take the run up where its last checkpoint left it, or start it.

        Returns:
            A callback that gives the metrics of an interval back that was
            begun before.
        """
        found = self.checkpoints.latest()
        wait_for_all()  # Before the first of them writes anything.
        if found is None:
            if self.settings.initialize_from is not None:
                setup.initialize(self.model, self.settings.initialize_from)
            self.settings = dataclasses.replace(
                self.settings, facts=self._facts()
            )
            self._save()
            if self.is_main:
                self.settings.write(self.output)
            return RestoringMetrics([])
        arrays, state = found
        self._check_images()
        with contextlib.closing(arrays):
            metrics = write_state(self.model, arrays)
        self.position.step = state["step"]
        self.position.earlier_seconds = state["seconds"]
        self._say(f"going on from step {self.position.step}")
        return RestoringMetrics(
            metrics if self.position.step % self.interval else []
        )

    def _facts(self):
        return {
            "num_images": len(self.source),
            "fingerprint": self.source.fingerprint,
            "parameters": self.model.backbone.count_params(),
            "versions": {
                "keras_simple_diffusion": __version__,
                "keras": keras.__version__,
                "backend": backend_name(),
                "python": platform.python_version(),
            },
        }

    def _check_images(self):
        """Raise an `InputError` if they are not those that the run had."""
        facts = self.settings.facts
        if facts["fingerprint"] != self.source.fingerprint:
            raise InputError(
                f"The images of '{self.settings.data}' have changed since "
                f"the run began with {facts['num_images']} of them; there "
                f"are {len(self.source)} now. Bring the old ones back, or "
                "start a new run from this one: train --initialize-from "
                f"{self.output} --data {self.settings.data}"
            )

    def _callbacks(self):
        """What goes along with the training, in the order of its turns."""
        settings, position, output = self.settings, self.position, self.output
        recipe = settings.recipe
        callbacks = [
            Counter(position, recipe.steps, settings.minutes),
            Interruption(position),
            self.measurements,
            self.watch,
        ]
        if settings.quick_fid:
            callbacks.append(setup.follow_frechet(settings, self.model))
        if self.is_main:
            levels = [f"level_loss_{i}" for i in range(_NUM_LEVELS)]
            fields = ["loss", "val_loss", "gradient_norm", "parameter_norm"]
            fields += ["learning_rate", *levels]
            fields += ["images_per_second", "waiting", "utilization"]
            fields += ["quick_fid"] if settings.quick_fid else []
            callbacks += [
                Progress(
                    position, recipe.steps, recipe.batch_size, settings.minutes
                ),
                History(position, output / "history.csv", fields),
                *make_loggers(settings.log, output),
            ]
        if settings.samples_every:
            callbacks.append(
                Samples(
                    position,
                    output / "samples",
                    settings.samples_every,
                    settings.seed,
                    self.prompts,
                )
            )
        if settings.snapshots:
            callbacks.append(
                Snapshots(
                    position,
                    output / "snapshots",
                    recipe.steps,
                    settings.snapshots,
                )
            )
        every = settings.checkpoint_every
        return [*callbacks, Saving(position, self._save, self.interval, every)]

    def _fit(self, callbacks):
        """Train from where the run stands to its end.

        Keras's epochs are the intervals of the log. One that was begun before
        is ended first, in a `fit` of its own.
        """
        position, interval = self.position, self.interval
        if position.step % interval:
            epoch = position.step // interval
            rest = interval - position.step % interval
            self._fit_epochs(callbacks, epoch, epoch + 1, rest)
        begun = position.step // interval
        epochs = -(-self.settings.recipe.steps // interval)
        if begun < epochs and not self.model.stop_training:
            self._fit_epochs(callbacks, begun, epochs, interval)

    def _fit_epochs(self, callbacks, begun, epochs, interval):
        per_step = self.position.batches_per_step
        batches = self._batches(self.position.step * per_step)
        self.measurements.follow(batches)
        with batches.errors_as_raised():
            self.model.fit(
                batches,
                initial_epoch=begun,
                steps_per_epoch=interval * per_step,
                epochs=epochs,
                validation_data=self.validation,
                validation_batch_size=self.validation_size,
                validation_freq=_VALIDATION_INTERVALS,
                shuffle=False,  # Grain has shuffled already.
                callbacks=callbacks,
                verbose=0,
            )

    def _batches(self, start, is_whole=False):
        index, count = (0, 1) if is_whole else data_shard()
        return training_batches(
            self.examples,
            self.batch_size,
            self.settings.seed,
            self.settings.recipe.flip,
            start_step=start,
            process_index=index,
            process_count=count,
            num_workers=0 if is_whole else self.settings.workers,
            keys=self.keys,
        )

    def _read_batch(self, number):
        return next(iter(self._batches(number, is_whole=True)))

    def _save(self):
        if self.position.step:
            self.watch.check()
        state = {
            "step": self.position.step,
            "seconds": round(self.position.seconds(), 3),
            "settings": self.settings.to_dict(),
        }
        arrays = read_state(self.model)
        if self.is_main:
            self.checkpoints.save(self.position.step, arrays, state)
        else:
            for _ in arrays:  # All processes take part in gathering them.
                pass
        self.model.save_to_preset(self.output / "preset")

    def _say(self, text):
        if self.is_main:
            print(text)
