import contextlib
import functools

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_simple_diffusion import losses
from keras_simple_diffusion import schedules
from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend import replicas
from keras_simple_diffusion.distribution.batches import run_batches
from keras_simple_diffusion.distribution.strategies import check_distribution
from keras_simple_diffusion.generation.denoising import Network
from keras_simple_diffusion.generation.programs import ProgramCache
from keras_simple_diffusion.losses.level_loss import LevelLoss
from keras_simple_diffusion.models import fit_data
from keras_simple_diffusion.models.averages import Averages
from keras_simple_diffusion.models.backbone import blocks_within
from keras_simple_diffusion.models.noisy_batch import NoisyBatch
from keras_simple_diffusion.models.noisy_batch import draw_times
from keras_simple_diffusion.models.setting_warnings import warn_unusual
from keras_simple_diffusion.models.step_lock import StepLock
from keras_simple_diffusion.models.value_check import RaiseBadValues
from keras_simple_diffusion.models.value_check import ValueCheck
from keras_simple_diffusion.ops.diffusion import check_prediction_type
from keras_simple_diffusion.ops.diffusion import diffuse
from keras_simple_diffusion.ops.diffusion import from_uint8
from keras_simple_diffusion.ops.diffusion import make_target
from keras_simple_diffusion.optimizers.construction import check_trainable
from keras_simple_diffusion.optimizers.construction import find_optimizer
from keras_simple_diffusion.optimizers.construction import wrap_optimizer
from keras_simple_diffusion.schedules import ShiftedCosineSchedule
from keras_simple_diffusion.utils.errors import InputError

# The seed of the noise in `evaluate`, the same in every call.
_EVALUATION_SEED = 0x51D20000

_fit = keras_internals.keeps_values(keras.Model.fit)
_evaluate = keras_internals.keeps_values(keras.Model.evaluate)
_train_on_batch = keras_internals.keeps_values(keras.Model.train_on_batch)
_test_on_batch = keras_internals.keeps_values(keras.Model.test_on_batch)


class DenoisingTrainer(keras_internals.OwnTrainingSteps, keras_hub.models.Task):
    """Base class of the diffusion models: it trains a network to denoise.

    It joins a network with a noise schedule and a loss. `call` adds noise and
    predicts, `compute_loss` measures the error; the training step is Keras's
    own on every backend. Averages of the weights are kept beside the weights,
    and compiled programs compute with these averages.

    Subclasses define the data:

    - `prepare_data(x)` checks the argument of `fit`, and returns the data
      that Keras receives in its place,
    - `split_inputs(inputs)` returns the images of a batch and a dict of their
      conditions,
    - `condition(conditions, dropout)` turns these conditions into inputs of
      the network. `dropout`, uniform in `[0, 1)` for each image, decides
      which images get the null condition; outside of training it is `None`,
    - `num_values`: dict from names of integer conditions to the number of
      their values, counted from 0.

    Args:
        backbone: see `DiffusionModel`.
        schedule: see `DiffusionModel`.
        loss: see `DiffusionModel`.
        prediction_type: see `DiffusionModel`.
        stratified: see `DiffusionModel`.
        **kwargs: base `keras_hub.models.Task` arguments.
    """

    def __init__(
        self, backbone, schedule, loss, prediction_type, stratified, **kwargs
    ):
        check_prediction_type("prediction_type", prediction_type)
        size = min(backbone.image_shape[:2])
        if schedule is None:
            schedule = ShiftedCosineSchedule(size, noise_size=min(size, 64))
        schedule = schedules.get(schedule, image_size=size)
        loss = losses.get("v" if loss is None else loss)
        super().__init__(compile=False, dtype="float32", **kwargs)
        self.backbone = backbone
        self.preprocessor = None
        self.schedule = schedule
        self.diffusion_loss = loss
        self.prediction_type = prediction_type
        self.stratified = stratified
        self.level_loss = None
        self.averages = Averages(self)
        self.evaluate_averages = False
        self.value_check = ValueCheck(self.num_values)
        self.programs = ProgramCache()
        self.step_lock = StepLock()
        self.parallel_step = replicas.ParallelStep(self, blocks_within)
        # Each step draws its times with one draw from a generator of their
        # own, so that `times_of_step` can repeat it.
        self.seed_generator = keras.random.SeedGenerator(name="training_seed")
        self.time_seed_generator = keras.random.SeedGenerator(name="time_seed")
        self.evaluation_seed_generator = keras.random.SeedGenerator(
            _EVALUATION_SEED, name="evaluation_seed"
        )
        warn_unusual(schedule, loss, backbone.image_shape, stacklevel=4)
        self.built = True  # All variables belong to its parts.

    # Cost of training on an image in forward passes: the gradient costs two.
    num_passes = 3
    compiles_whole_steps = False  # On PyTorch only the blocks of networks.

    # === Compilation ===

    def compile(
        self,
        optimizer="auto",
        ema_decay=0.9999,
        evaluate_averages=False,
        watch=False,
        noise_level_bins=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        **unsupported,
    ):
        fit_data.check_compile(self, steps_per_execution, unsupported)
        check_distribution()
        optimizer = find_optimizer(optimizer)
        self._compile_arguments = {
            "optimizer": optimizer,
            "ema_decay": ema_decay,
            "evaluate_averages": evaluate_averages,
            "watch": watch,
            "noise_level_bins": noise_level_bins,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }
        self.evaluate_averages = evaluate_averages
        # Keras scales the loss of a float16 model; ours is float32 around a
        # float16 backbone.
        is_half = self.backbone.compute_dtype == "float16"
        optimizer = wrap_optimizer(
            optimizer, ema_decay, watch, auto_scale_loss and is_half
        )
        self.averages.hand_over(optimizer)
        self.level_loss = None
        if noise_level_bins is not None:
            self.level_loss = LevelLoss(noise_level_bins)
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        keras_internals.average_loss_in_float32(self)
        self.programs.clear()

    def get_compile_config(self):
        config = keras.saving.serialize_keras_object(self._compile_arguments)
        return {"arguments": config, "is_trained": self.optimizer.built}

    def compile_from_config(self, config):
        self.compile(
            **keras.saving.deserialize_keras_object(config["arguments"])
        )
        if config["is_trained"]:
            self.build_optimizer()  # So that its variables can be loaded.

    @property
    def metrics(self):
        # Keras still lists the metrics of an earlier `compile`.
        return [
            metric
            for metric in super().metrics
            if not isinstance(metric, LevelLoss) or metric is self.level_loss
        ]

    # === Training ===
    # `keras_hub` maps its preprocessing over a dataset of single examples;
    # without it Keras feeds arrays and every kind of dataset directly.

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        **kwargs,
    ):
        """Train, see `keras.Model.fit`.

        Args:
            x: dict with `"images"` and, for a class-conditional model,
                `"labels"`, or the images alone; for text, `"captions"`:
                arrays, or a `tf.data` or Grain dataset, a
                `keras.utils.PyDataset`, a torch `DataLoader` or another
                iterable of such batches. Images are `uint8` in `[0, 255]`, or
                float in `[-1, 1]`, of shape `(N, H, W, C)`; labels are
                integers and captions strings of shape `(N,)`.
            y: not supported, labels and captions are part of `x`.
            batch_size: see `keras.Model.fit`.
            epochs: see `keras.Model.fit`.
            verbose: see `keras.Model.fit`.
            callbacks: see `keras.Model.fit`.
            validation_split: see `keras.Model.fit`.
            validation_data: like `x`.
            shuffle: see `keras.Model.fit`. Datasets are never shuffled.
            class_weight: not supported.
            sample_weight: not supported.
            **kwargs: `initial_epoch`, `steps_per_epoch`, `validation_steps`,
                `validation_batch_size` and `validation_freq` of
                `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            InputError: if the data do not fit the model.
        """
        fit_data.refuse(
            y=y, class_weight=class_weight, sample_weight=sample_weight
        )
        callbacks = keras.tree.flatten(callbacks or [])
        options = {
            "batch_size": batch_size,
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": [RaiseBadValues(self.value_check), *callbacks],
            "validation_split": validation_split,
            **kwargs,
        }
        fit_data.check_options(options)
        fit_data.check_is_given(x)
        self._prepare_training()
        x = fit_data.for_sizes(self.prepare_data(x))
        validation_data = fit_data.for_sizes(self.prepare_data(validation_data))
        rows = batch_size or 32  # As in Keras.
        fit_data.check_rows(x, rows)
        rows = kwargs.get("validation_batch_size") or rows
        fit_data.check_rows(validation_data, rows)
        steps = kwargs.get("steps_per_epoch"), kwargs.get("validation_steps")
        with (
            self.step_lock.training(),
            fit_data.ending_epochs([x, validation_data], steps),
        ):
            return _fit(
                self,
                x,
                validation_data=validation_data,
                # Datasets have shuffled already.
                shuffle=fit_data.is_shuffled_by_keras(x) and shuffle,
                **options,
            )

    def evaluate(self, x=None, y=None, sample_weight=None, **kwargs):
        """Measure the loss, with the same noise in every call.

        Args:
            x: see `fit`.
            y: not supported.
            sample_weight: not supported.
            **kwargs: of `keras.Model.evaluate`; the noise follows `batch_size`.

        Returns:
            The result of `keras.Model.evaluate`.

        Raises:
            InputError: if the data do not fit the model.
        """
        fit_data.refuse(y=y, sample_weight=sample_weight)
        if keras_internals.is_validation_of_fit(kwargs):
            self.value_check.check()  # Its counts are reset next.
        else:
            fit_data.check_options(kwargs)
            fit_data.check_is_given(x)
            x = fit_data.for_sizes(self.prepare_data(x))
            fit_data.check_rows(x, kwargs.get("batch_size") or 32)
        steps = [kwargs.get("steps")]
        with self._evaluating(), fit_data.ending_epochs([x], steps):
            return _evaluate(self, x, **kwargs)

    @contextlib.contextmanager
    def _evaluating(self):
        """Context of `evaluate` and `test_on_batch`."""
        self.recover_values()
        # Add the same noise each time.
        self.evaluation_seed_generator.state.assign([_EVALUATION_SEED, 0])
        averages = self.averages.in_place
        if not self.evaluate_averages:
            averages = contextlib.nullcontext
        with self.step_lock.training(), averages():
            yield
        self.value_check.check()

    def train_on_batch(
        self, x=None, y=None, sample_weight=None, class_weight=None, **kwargs
    ):
        """Train on one batch, see `fit` and `keras.Model.train_on_batch`."""
        fit_data.refuse(
            y=y, sample_weight=sample_weight, class_weight=class_weight
        )
        fit_data.check_is_given(x)
        self._prepare_training()
        x = self.prepare_data(x)
        fit_data.check_rows(x)
        with self.step_lock.training(), self.step_lock:
            results = _train_on_batch(self, x, **kwargs)
        self.value_check.check()
        return results

    def test_on_batch(self, x=None, y=None, sample_weight=None, **kwargs):
        """Measure the loss of one batch, see `keras.Model.test_on_batch`."""
        fit_data.refuse(y=y, sample_weight=sample_weight)
        fit_data.check_is_given(x)
        x = self.prepare_data(x)
        fit_data.check_rows(x)
        with self._evaluating(), self.step_lock:
            return _test_on_batch(self, x, **kwargs)

    def predict(self, *args, **kwargs):
        """Raise an error: images are drawn by `generate`."""
        raise InputError(
            f"A {type(self).__name__} does not predict. Draw images with "
            "`generate`, measure the loss with `evaluate`, or call the "
            "network, `model.backbone.predict(inputs)`."
        )

    predict_on_batch = predict

    def export(self, *args, **kwargs):
        """Raise an error: the network is exported, by `backbone.export`."""
        raise InputError(
            f"A {type(self).__name__} cannot be exported. Export its network "
            "with `model.backbone.export(...)`, within "
            "`model.averaged_weights()` for the averaged weights."
        )

    # === Weights ===
    # Not during `fit` in another thread.

    loading_from = contextlib.nullcontext  # Called with the path of the file.

    def load_weights(self, filepath, **kwargs):
        """Load weights and, where the file has them, their averages.

        `save_weights` stores the averages with the optimizer. Without them
        `generate` uses the weights themselves, with a warning.

        Args:
            filepath: path, see `keras.Model.load_weights`.
            **kwargs: see `keras.Model.load_weights`.
        """
        self.build_optimizer()  # Otherwise they would be skipped.
        with self.averages.being_loaded(), self.loading_from(filepath):
            super().load_weights(filepath, **kwargs)

    def get_weights(self):
        """Return the weights, which carry their averages along."""
        return self.averages.get_with(super().get_weights())

    def set_weights(self, weights):
        """Set the weights, and the averages of a list of `get_weights`.

        Averages that other lists do not have are forgotten, with a warning.
        """
        self.averages.check(weights)
        super().set_weights(weights)
        self.averages.set_from(weights)

    def quantize(self, *args, **kwargs):
        """Quantize the averaged weights, see `keras.Model.quantize`."""
        if self.averages.exist():
            self.averages.optimizer.keep_average()
        super().quantize(*args, **kwargs)

    def _prepare_training(self):
        """Check what is trained, and forget averages of other weights."""
        self.averages.exist()
        check_trainable(self.optimizer, self.trainable_variables)
        self.build_optimizer()

    def build_optimizer(self):
        """Create the optimizer's variables before TensorFlow traces a step."""
        if self.optimizer is None or self.optimizer.built:
            return
        strategy = getattr(self, "distribute_strategy", None)
        with strategy.scope() if strategy else contextlib.nullcontext():
            self.parallel_step.build(self.optimizer)

    def noisy_batch(self, inputs, training=False):
        """Add noise of random levels to a batch.

        Args:
            inputs: a batch of the data.
            training: bool. Whether conditions are dropped. Defaults to
                `False`.

        Returns:
            A `NoisyBatch`.
        """
        images, conditions, num_bad = self.value_check.mend(
            *self.split_inputs(inputs)
        )
        images = from_uint8(images)
        size, *rest = ops.shape(images)
        size = replicas.whole_size(size)
        noise_generator = times_generator = self.evaluation_seed_generator
        if training:
            noise_generator = self.seed_generator
            times_generator = self.time_seed_generator
        time, dropout = draw_times(
            size, times_generator, training and self.stratified
        )
        noise = keras.random.normal(
            (size, *rest), dtype="float32", seed=noise_generator
        )
        drawn = (time, dropout, noise)
        time, dropout, noise = map(replicas.own_part, drawn)
        time = self.place_times(time, training)
        log_snr = self.schedule(time)
        return NoisyBatch(
            images,
            noise,
            time,
            log_snr,
            diffuse(images, noise, log_snr),
            self.condition(conditions, dropout if training else None),
            num_bad,
        )

    def place_times(self, time, training):
        """Return the times of a batch, given uniform ones of shape `(B,)`."""
        return time

    def call(self, inputs, training=False):
        compute = functools.partial(self.compute_outputs, training=training)
        with self.programs.blocks.running(self.jit_compile):
            return self.parallel_step(compute, inputs)

    def compute_outputs(self, inputs, training):
        """Compute what the loss of a batch depends on.

        Args:
            inputs: a batch of the data.
            training: bool.

        Returns:
            A dict of `"time"` and `"num_bad"` of the `NoisyBatch`, and of the
            arguments of `image_losses`.
        """
        batch = self.noisy_batch(inputs, training)
        network = Network(self.backbone, self.prediction_type)
        return {
            "target": make_target(
                batch.images, batch.noise, batch.log_snr, self.prediction_type
            ),
            "prediction": network.predict(
                batch.noisy_images, batch.log_snr, batch.conditions, training
            ),
            "time": batch.time,
            "num_bad": batch.num_bad,
            "log_snr": batch.log_snr,
            "log_snr_derivative": self.schedule.derivative(batch.time),
        }

    def times_of_step(self, batch_size, steps_ago):
        """Draw the times of an earlier training step again.

        Args:
            batch_size: int.
            steps_ago: int, 1 for the last step.

        Returns:
            A float32 tensor of shape `(batch_size,)`.
        """
        state = self.time_seed_generator.state
        now = ops.convert_to_numpy(state)
        state.assign(now - np.array([0, steps_ago], now.dtype))
        t, _ = draw_times(batch_size, self.time_seed_generator, self.stratified)
        state.assign(now)
        return t

    def image_losses(self, **outputs):
        """Return the loss of each image, given the outputs of `call`."""
        return self.diffusion_loss(
            prediction_type=self.prediction_type, **outputs
        )

    def compute_loss(
        self,
        x=None,
        y=None,
        y_pred=None,
        sample_weight=None,
        training=True,
    ):
        y_pred = dict(y_pred)
        time, num_bad = y_pred.pop("time"), y_pred.pop("num_bad")
        per_image = self.image_losses(**y_pred)
        num_bad = replicas.sum_counts(num_bad)
        if self.level_loss is not None:
            rows = map(replicas.join_rows, (time, per_image))
            self.level_loss.update_state(*rows)
        loss = replicas.mean_of_batch(per_image)
        for penalty in self.losses:
            loss = loss + ops.sum(ops.cast(penalty, "float32"))
        if num_bad:
            self.value_check.update_state(num_bad)
            loss = ops.where(sum(num_bad.values()) > 0, float("nan"), loss)
        return replicas.share_of_loss(loss)

    # === Averaged weights ===

    @contextlib.contextmanager
    def averaged_weights(self, profile=0):
        """Context in which the model has the averaged weights.

        It changes the weights in place, for saving and inspection; drawing
        does not need it. Without an average it changes nothing. It must not
        be entered while another thread trains the model.

        Args:
            profile: int, the index of one of the averages of `compile`, or
                its profile or decay. Defaults to `0`.
        """
        self.recover_values()
        with self.averages.in_place(profile):
            yield

    def reading_averages(self, variables):
        """Context in which the averaged values of variables can be read.

        The weights themselves are not touched, so that threads can draw while
        another one trains.

        Args:
            variables: list of variables of the model.

        Yields:
            A list of tensors: the first average of each averaged weight, the
            current value of all other variables.
        """
        return self.step_lock.reading(
            lambda: self.averages.read(variables), ops.copy
        )

    def run_program(
        self, program, rows, shared, batch_size=64, guide=None, run=None
    ):
        """Run a program with the averaged weights, batch by batch.

        Args:
            program: hashable callable of `rows` and `shared`, with the
                attribute `variables`: those of this model first, then those
                of `guide`.
            rows: nested dict of arrays with one row an image.
            shared: nested dict of tensors.
            batch_size: int. Defaults to `64`.
            guide: optional further `DenoisingTrainer` whose network the program
                uses.
            run: function of the compiled program and of the rows and `shared`
                of a batch, such as `SamplingProgram.run`. Defaults to a call.

        Returns:
            A NumPy array with one row an image, or a tuple of arrays.
        """
        # Programs that use a guide are cached in the guide, so that they are
        # freed with it.
        owner = self if guide is None else guide
        how = bool(self.jit_compile), self.run_eagerly
        function = owner.programs.compile(program, *how)
        variables = list(program.variables)
        own = {id(variable) for variable in self.variables}
        count = sum(id(variable) in own for variable in variables)
        with contextlib.ExitStack() as stack:
            reading = self.reading_averages(variables[:count])
            values = stack.enter_context(reading)
            if variables[count:]:
                reading = guide.reading_averages(variables[count:])
                values += stack.enter_context(reading)
            call = functools.partial(function, values=values)
            call = functools.partial(run, call) if run else call
            return run_batches(call, rows, shared, batch_size)

    # === Presets ===

    @property
    def own_variables(self):
        """The variables that a preset or checkpoint has to hold."""
        return self.variables
