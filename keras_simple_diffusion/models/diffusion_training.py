import contextlib

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.backend.native import replica
from keras_simple_diffusion.distribution.batches import own_part
from keras_simple_diffusion.distribution.batches import whole_size
from keras_simple_diffusion.distribution.strategies import check_distribution
from keras_simple_diffusion.generation.programs import Network
from keras_simple_diffusion.losses.level_loss import LevelLoss
from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.ops.diffusion import from_uint8
from keras_simple_diffusion.ops.diffusion import stratify
from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.construction import make_optimizer
from keras_simple_diffusion.optimizers.construction import wrap_optimizer
from keras_simple_diffusion.optimizers.wrapper import find_optimizer

# The seed of the noise of `evaluate`, the same in every call.
_EVALUATION_SEED = 0x51D20000


class DiffusionTraining:
    """What a diffusion model does in `compile`, `fit` and `evaluate`.

    A mixin for `keras_hub.models.Task`. Noise is added in `call` and the error
    measured in `compute_loss`; the training step is Keras's own on every
    backend. A subclass says what the data are:

    - `prepare_data(x)`: checks what `fit` received, and returns what Keras is
      given in its place,
    - `split_inputs(inputs)`: a batch as a tuple of the images and a dict of
      what belongs to them,
    - `condition(conditions, dropout)`: this dict as inputs of the network,
      with the null condition where `dropout`, uniform in `[0, 1)` for each
      image, is below the rate of dropout. It is `None` outside of training.
    """

    def _create_seeds(self):
        self.seed_generator = keras.random.SeedGenerator(name="training_seed")
        self.evaluation_seed_generator = keras.random.SeedGenerator(
            _EVALUATION_SEED, name="evaluation_seed"
        )

    def compile(
        self,
        optimizer="auto",
        sampler=None,
        ema_decay=0.9999,
        watch=False,
        noise_level_bins=None,
        **kwargs,
    ):
        """Set how to train and how to sample.

        Args:
            optimizer: a `keras.optimizers.Optimizer`, or its name. `"auto"`
                is the paper's for the U-ViT: Adam at a learning rate of 1e-4
                with `beta_2=0.99`, `epsilon=1e-12` and gradients clipped to a
                norm of 1.
            sampler: a `keras_simple_diffusion.samplers.Sampler`. Defaults to
                the model's.
            ema_decay: float, a profile such as
                `keras_simple_diffusion.optimizers.PowerProfile`, or a list of
                these: the averages of the weights that are kept, see
                `keras_simple_diffusion.optimizers.AveragedOptimizer`. The
                first is that of `generate` and `save_to_preset`. `None` keeps
                no average. Defaults to `0.9999`.
            watch: bool. Whether the norms of gradients and weights and the
                first step that went wrong are noted, see
                `keras_simple_diffusion.optimizers.WatchedOptimizer`. Defaults
                to `False`.
            noise_level_bins: int or `None`. Number of ranges of noise levels
                whose mean losses are in the logs, see
                `keras_simple_diffusion.losses.LevelLoss`. Defaults to `None`.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile` and
                `auto_scale_loss` of `keras.Model.compile`.
        """
        check_distribution()
        if optimizer == "auto":
            optimizer = make_optimizer()
        optimizer = keras.optimizers.get(optimizer)
        self._compile_arguments = {
            "optimizer": optimizer,
            "sampler": sampler,
            "ema_decay": ema_decay,
            "watch": watch,
            "noise_level_bins": noise_level_bins,
            **kwargs,
        }
        if sampler is not None:
            self.sampler = sampler
        previous = find_optimizer(
            getattr(self, "optimizer", None), AveragedOptimizer
        )
        # Keras scales the loss of a float16 model; ours is float32 around a
        # float16 backbone.
        is_half = self.backbone.compute_dtype == "float16"
        scale_loss = kwargs.pop("auto_scale_loss", True) and is_half
        optimizer = wrap_optimizer(optimizer, ema_decay, watch, scale_loss)
        averaged = find_optimizer(optimizer, AveragedOptimizer)
        if averaged and previous is not None and previous.has_averages():
            averaged.build(self.trainable_variables)
            averaged.copy_averages(previous)
        self.level_loss = noise_level_bins and LevelLoss(noise_level_bins)
        super().compile(optimizer=optimizer, **kwargs)
        self.compiled_programs = {}

    def get_compile_config(self):
        config = keras.saving.serialize_keras_object(self._compile_arguments)
        return {"arguments": config, "is_trained": self.optimizer.built}

    def compile_from_config(self, config):
        self.compile(
            **keras.saving.deserialize_keras_object(config["arguments"])
        )
        if config["is_trained"]:
            # Its variables are there to be loaded.
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        # Keras still lists the metrics of an earlier `compile`.
        return [
            metric
            for metric in super().metrics
            if not isinstance(metric, LevelLoss) or metric is self.level_loss
        ]

    # `keras_hub` maps its preprocessing over a dataset of single examples;
    # without any, Keras feeds arrays and every kind of dataset directly.

    def fit(self, x=None, *args, validation_data=None, **kwargs):
        """Train, see `keras.Model.fit`.

        Args:
            x: dict with `"images"` and, for a class-conditional model,
                `"labels"`, or the images alone; for text, `"captions"`:
                arrays, or a `tf.data` or Grain dataset, a
                `keras.utils.PyDataset` or a torch `DataLoader` of such
                batches, the last one of tuples `(x,)`. Images are `uint8` in
                `[0, 255]`, or float in `[-1, 1]`, of shape `(N, H, W, C)`;
                labels are integers and captions strings of shape `(N,)`.
            *args: further arguments of `keras.Model.fit`.
            validation_data: like `x`.
            **kwargs: further arguments of `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.
        """
        self._build_optimizer()
        if not isinstance(x, (dict, keras.utils.PyDataset)) and not hasattr(
            x, "shape"
        ):
            kwargs["shuffle"] = False  # Datasets have shuffled already.
        return keras.Model.fit(
            self,
            self.prepare_data(x),
            *args,
            validation_data=self.prepare_data(validation_data),
            **kwargs,
        )

    def evaluate(self, x=None, *args, **kwargs):
        """Measure the loss, with the same noise in every call.

        Args:
            x: see `fit`.
            *args: further arguments of `keras.Model.evaluate`.
            **kwargs: further arguments of `keras.Model.evaluate`.

        Returns:
            What `keras.Model.evaluate` returns.
        """
        self.evaluation_seed_generator.state.assign([_EVALUATION_SEED, 0])
        return keras.Model.evaluate(self, self.prepare_data(x), *args, **kwargs)

    def _build_optimizer(self):
        # Or TensorFlow would make its variables while it traces the training
        # step, each with a condition of its own, and trace it once more.
        if self.optimizer is None or self.optimizer.built:
            return
        strategy = getattr(self, "distribute_strategy", None)
        with strategy.scope() if strategy else contextlib.nullcontext():
            self.optimizer.build(self.trainable_variables)

    def train_on_batch(self, *args, **kwargs):
        self._build_optimizer()
        return keras.Model.train_on_batch(self, *args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        return keras.Model.test_on_batch(self, *args, **kwargs)

    def call(self, inputs, training=False):
        images, conditions = self.split_inputs(inputs)
        images = from_uint8(images)
        generator = self.evaluation_seed_generator
        if training:
            generator = self.seed_generator
        size, *rest = ops.shape(images)
        size = whole_size(size)
        t, dropout = self._draw_times(
            size, generator, training and self.stratified
        )
        noise = keras.random.normal(
            (size, *rest), dtype="float32", seed=generator
        )
        t, dropout, noise = map(own_part, (t, dropout, noise))
        log_snr = self.schedule(t)
        alpha, sigma = alpha_sigma(expand_like(log_snr, images))
        conditions = self.condition(conditions, dropout if training else None)
        network = Network(self.backbone, self.prediction_type)
        prediction = network.predict(
            alpha * images + sigma * noise, log_snr, conditions, training
        )
        target = {
            "v": alpha * noise - sigma * images,
            "epsilon": noise,
            "x": images,
        }
        return {
            "target": target[self.prediction_type],
            "prediction": prediction,
            "time": t,
            "log_snr": log_snr,
            "log_snr_derivative": self.schedule.derivative(t),
        }

    def _draw_times(self, batch_size, generator, stratified):
        """Times, and numbers in [0, 1) that decide on dropped conditions."""
        uniform = keras.random.uniform(
            (batch_size, 2), dtype="float32", seed=generator
        )
        t = uniform[:, 0]
        if stratified:
            shift = keras.random.uniform((1,), dtype="float32", seed=generator)
            t = stratify(t, shift)
        return t, uniform[:, 1]

    def times_of_step(self, batch_size, steps_ago):
        """The times that an earlier training step has drawn.

        Args:
            batch_size: int.
            steps_ago: int, 1 for the last step.

        Returns:
            A float32 tensor of shape `(batch_size,)`.
        """
        state = self.seed_generator.state
        now = ops.convert_to_numpy(state)
        draws = 3 if self.stratified else 2  # The noise's among them.
        state.assign(now - np.array([0, draws * steps_ago], now.dtype))
        t, _ = self._draw_times(
            batch_size, self.seed_generator, self.stratified
        )
        state.assign(now)
        return t

    def compute_loss(
        self,
        x=None,
        y=None,
        y_pred=None,
        sample_weight=None,
        training=True,
    ):
        y_pred = dict(y_pred)
        time = y_pred.pop("time")
        losses = self.diffusion_loss(
            prediction_type=self.prediction_type, **y_pred
        )
        if self.level_loss is not None:
            self.level_loss.update_state(time, losses)
        if sample_weight is not None:
            losses = losses * ops.cast(sample_weight, "float32")
        loss = ops.mean(losses)
        for penalty in self.losses:
            loss = loss + ops.sum(ops.cast(penalty, "float32"))
        # Keras adds up the losses of the copies in a TensorFlow strategy.
        _, num_replicas = replica()
        return loss / num_replicas

    @contextlib.contextmanager
    def averaged_weights(self, profile=0):
        """Context in which the model has the averaged weights.

        `generate` and `save_to_preset` use it themselves. Without an average
        it changes nothing.

        Args:
            profile: int, the index of one of the averages of `compile`, or
                its profile or decay. Defaults to `0`.
        """
        optimizer = find_optimizer(self.optimizer, AveragedOptimizer)
        if optimizer is None or not optimizer.has_averages():
            yield
            return
        with optimizer.averaged_weights(profile):
            yield
