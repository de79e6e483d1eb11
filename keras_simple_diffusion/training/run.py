import contextlib
import dataclasses
import pathlib
import platform

import keras

from keras_simple_diffusion.data.named import open_data
from keras_simple_diffusion.data.pipeline import training_batches
from keras_simple_diffusion.models.transfer import transfer_weights
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.history import History
from keras_simple_diffusion.training.interruption import Interruption
from keras_simple_diffusion.training.plots import draw_loss
from keras_simple_diffusion.training.position import Counter
from keras_simple_diffusion.training.position import Position
from keras_simple_diffusion.training.progress import Progress
from keras_simple_diffusion.training.samples import Samples
from keras_simple_diffusion.training.samples import draw_samples
from keras_simple_diffusion.training.saving import Saving
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.state import RestoringMetrics
from keras_simple_diffusion.training.state import read_state
from keras_simple_diffusion.training.state import write_state
from keras_simple_diffusion.utils.backend import device_name
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import read_json
from keras_simple_diffusion.utils.presets import resolve_preset
from keras_simple_diffusion.version import __version__

# Steps between lines of the log: a fiftieth of the run, 100 at most.
_NUM_INTERVALS = 50
_LONGEST_INTERVAL = 100
_VALIDATION_INTERVALS = 5


def train_run(
    data,
    output,
    preset="uvit_small_64",
    image_size=None,
    seed=0,
    initialize_from=None,
    minutes=None,
    checkpoint_every=None,
    samples_every=None,
    keep=3,
    workers=0,
    dtype="float32",
    **overrides,
):
    """Train a preset's network on pictures, into a run folder.

    The folder receives `config.json`, `history.csv`, `checkpoints/` (all that
    `resume_run` needs), `preset/` (what `DiffusionModel.from_preset` loads),
    `loss.png` and `samples.png`.

    Args:
        data: string. `"digits"`, or the path of a folder or zip.
        output: path of the run folder, which must not hold anything.
        preset: string. Name or folder of the preset that gives network and
            recipe; only its configuration is used. Defaults to
            `"uvit_small_64"`.
        image_size: int or `None`. Defaults to the preset's.
        seed: int. Defaults to `0`.
        initialize_from: string or `None`. Preset or run whose weights to start
            from, see `keras_simple_diffusion.models.transfer_weights`.
        minutes: float or `None`. Time limit of the training.
        checkpoint_every: int or `None`. Steps between checkpoints, besides the
            one at the end.
        samples_every: int or `None`. Steps between sheets of samples, besides
            the one at the end.
        keep: int. Number of checkpoints to keep. Defaults to `3`.
        workers: int. Processes that read pictures, 0 for threads of this one.
            Defaults to `0`.
        dtype: string. Dtype policy of the network, such as
            `"mixed_bfloat16"`. Defaults to `"float32"`.
        **overrides: fields of the recipe, `None` for the preset's.

    Returns:
        The trained `DiffusionModel`.

    Raises:
        Interrupted: if a signal ended the training; the run is saved.
    """
    output = pathlib.Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(
            f"'{output}' holds something already. Choose another --output, or "
            f"go on with the run there: train --resume {output}"
        )
    folder = resolve_preset(preset, load_weights=False)
    recipe = setup.read_recipe(folder, overrides)
    shape = read_json(folder, "config.json")["config"]["image_shape"]
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if pathlib.Path(data).exists():
        data = pathlib.Path(data).resolve()  # To resume from anywhere.
    settings = RunSettings(
        data=str(data),
        preset=str(preset),
        recipe=recipe,
        image_size=list(image_size or shape[:2]),
        seed=seed,
        initialize_from=initialize_from and str(initialize_from),
        minutes=minutes,
        checkpoint_every=checkpoint_every,
        samples_every=samples_every,
        keep=keep,
        workers=workers,
        dtype=dtype,
    )
    return _Run(output, settings, folder).train()


def resume_run(output, steps=None, minutes=None):
    """Go on with a run as if nothing had happened.

    Args:
        output: path of the run folder.
        steps: int or `None`. A new number of steps of the whole run.
        minutes: float or `None`. A new time limit of the whole run.

    Returns:
        The trained `DiffusionModel`.

    Raises:
        InputError: if that is no run, its pictures have changed, or no
            checkpoint is whole.
        Interrupted: if a signal ended the training; the run is saved.
    """
    output = pathlib.Path(output)
    settings = RunSettings.read(output).override(steps, minutes)
    return _Run(output, settings, str(output / "preset")).train()


class Interrupted(Exception):
    """A signal ended the training, and the run was saved.

    Args:
        signal: int, the signal's number.
        step: int, the step of the checkpoint.
    """

    def __init__(self, signal, step):
        super().__init__(f"interrupted by signal {signal} at step {step}")
        self.signal = signal
        self.step = step


class _Run:
    """A run in this process: its model, its pictures and where it stands."""

    def __init__(self, output, settings, preset):
        self.output = output
        self.settings = settings
        self.checkpoints = Checkpoints(output / "checkpoints", settings.keep)
        keras.utils.set_random_seed(settings.seed)
        shape = read_json(preset, "config.json")["config"]["image_shape"]
        size = tuple(settings.image_size)
        self.source = open_data(settings.data, size, "train", shape[2])
        self.validation = setup.held_out(settings.data, size, shape[2])
        self.model = setup.build_model(
            preset,
            self.source.image_shape,
            self.source.class_names,
            settings.dtype,
        )
        recipe = settings.recipe
        self.position = Position(batches_per_step=recipe.accumulate)
        self._interval = max(
            1, min(recipe.steps // _NUM_INTERVALS, _LONGEST_INTERVAL)
        )

    def train(self):
        settings, model, output = self.settings, self.model, self.output
        recipe = settings.recipe
        model.compile(recipe.optimizer(), ema_decay=recipe.ema_decay)
        model.optimizer.build(model.trainable_variables)
        format = " x ".join(str(n) for n in model.backbone.image_shape)
        print(
            f"{len(self.source)} pictures of {format}, "
            f"{len(self.source.class_names or [])} classes; "
            f"{model.backbone.count_params():,} parameters; "
            f"{keras.config.backend()} on {device_name()}"
        )
        restoring = self._begin()
        callbacks = [
            Counter(self.position, recipe.steps, settings.minutes),
            restoring,
            Interruption(self.position),
            Progress(
                self.position, recipe.steps, recipe.batch_size, settings.minutes
            ),
            History(
                self.position, output / "history.csv", ["loss", "val_loss"]
            ),
            Saving(
                self.position,
                self._save,
                self._interval,
                settings.checkpoint_every,
            ),
        ]
        if settings.samples_every:
            folder = output / "samples"
            callbacks.append(
                Samples(
                    self.position, folder, settings.samples_every, settings.seed
                )
            )
        self._fit(callbacks)
        if self.position.signal is not None:
            raise Interrupted(self.position.signal, self.position.step)
        draw_loss(output / "history.csv", output / "loss.png")
        print("drawing samples ...")
        draw_samples(model, settings.seed).save(output / "samples.png")
        return model

    def _facts(self):
        return {
            "num_pictures": len(self.source),
            "fingerprint": self.source.fingerprint,
            "parameters": self.model.backbone.count_params(),
            "versions": {
                "keras_simple_diffusion": __version__,
                "keras": keras.__version__,
                "backend": keras.config.backend(),
                "python": platform.python_version(),
            },
        }

    def _begin(self):
        """Take the run up where its last checkpoint left it, or start it.

        Returns:
            A callback that gives the metrics of an interval back that was
            begun before.
        """
        found = self.checkpoints.latest()
        if found is None:
            if self.settings.initialize_from is not None:
                transfer_weights(
                    self.settings.initialize_from, self.model.backbone
                )
            self.settings = dataclasses.replace(
                self.settings, facts=self._facts()
            )
            self._save()
            self.settings.write(self.output)
            return RestoringMetrics([])
        arrays, state = found
        self._check_pictures()
        with contextlib.closing(arrays):
            metrics = write_state(self.model, arrays)
        self.position.step = state["step"]
        self.position.earlier_seconds = state["seconds"]
        print(f"going on from step {self.position.step}")
        return RestoringMetrics(
            metrics if self.position.step % self._interval else []
        )

    def _check_pictures(self):
        """Raise an `InputError` if they are not those that the run had."""
        facts = self.settings.facts
        if facts["fingerprint"] != self.source.fingerprint:
            raise InputError(
                f"The pictures of '{self.settings.data}' have changed since "
                f"the run began with {facts['num_pictures']} of them; there "
                f"are {len(self.source)} now. Bring the old ones back, or "
                "start a new run from this one: train --initialize-from "
                f"{self.output} --data {self.settings.data}"
            )

    def _fit(self, callbacks):
        """Train from where the run stands to its end.

        Keras's epochs are the intervals of the log. One that was begun before
        is ended first, in a `fit` of its own.
        """
        position, interval = self.position, self._interval
        if position.step % interval:
            epoch = position.step // interval
            rest = interval - position.step % interval
            self._fit_epochs(callbacks, epoch, epoch + 1, rest)
        begun = position.step // interval
        epochs = -(-self.settings.recipe.steps // interval)
        if begun < epochs and not self.model.stop_training:
            self._fit_epochs(callbacks, begun, epochs, interval)

    def _fit_epochs(self, callbacks, begun, epochs, interval):
        recipe, per_step = self.settings.recipe, self.position.batches_per_step
        batches = training_batches(
            self.source,
            recipe.batch_size // per_step,
            self.settings.seed,
            recipe.flip,
            start_step=self.position.step * per_step,
            num_workers=self.settings.workers,
        )
        with batches.errors_as_raised():
            self.model.fit(
                batches,
                initial_epoch=begun,
                steps_per_epoch=interval * per_step,
                epochs=epochs,
                validation_data=self.validation,
                validation_freq=_VALIDATION_INTERVALS,
                shuffle=False,  # Grain has shuffled already.
                callbacks=callbacks,
                verbose=0,
            )

    def _save(self):
        state = {
            "step": self.position.step,
            "seconds": round(self.position.seconds(), 3),
            "settings": self.settings.to_dict(),
        }
        self.checkpoints.save(self.position.step, read_state(self.model), state)
        self.model.save_to_preset(self.output / "preset")
