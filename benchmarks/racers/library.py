"""This library: the preset of its photographs, smaller, without classes."""

import importlib.metadata
import time

import keras

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.optimizers.construction import WarmUp
from keras_simple_diffusion.training.settings import Recipe
from racers import STEPS

PRESET = "uvit_caltech_64"
# The preset is made for a GPU; this network is as large as the others'.
NETWORK = {
    "channels": (96, 256),
    "blocks": (1, 4),
    "num_heads": 4,
    "embedding_dim": 256,
    "downsampling_factor": 4,
    "num_classes": None,
}
RECIPE = {"batch_size": 16, "warmup_steps": 200, "ema_decay": 0.995}
_BATCH = 50  # Images drawn at once.


class UntilTime(keras.callbacks.Callback):
    """Stops when a limit of processor time is reached."""

    def __init__(self, seconds):
        super().__init__()
        self.end = time.process_time() + seconds
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.model.stop_training = time.process_time() >= self.end


class Racer:
    """Trains a `DiffusionModel` by a `Recipe`.

    Args:
        images: `uint8` array of shape `(N, H, W, 3)`.
        model: a `DiffusionModel`.
        recipe: a `Recipe`.
        seed: int.
        falling: float. Share of the time, at its end, in which the learning
            rate falls to zero. Then `train` is called once. Defaults to `0`.
    """

    def __init__(self, images, model, recipe, seed, falling=0.0):
        self.model, self.recipe, self.falling = model, recipe, falling
        self.model.compile(
            self.recipe.make_optimizer(), ema_decay=self.recipe.ema_decay
        )
        self.source = ksd.data.ArraySource(images)
        self.seed, self.steps = seed, 0

    def train(self, seconds):
        end = time.process_time() + seconds
        seen = self._fit((1 - self.falling) * seconds)
        if self.falling:
            # As many steps as are done in the rest of the time.
            left = round(self.steps * self.falling / (1 - self.falling))
            self.model.optimizer.learning_rate = WarmUp(
                self.recipe.learning_rate,
                self.recipe.warmup_steps,
                self.steps + left,
                left,
            )
            self.model.make_train_function(force=True)
            seen += self._fit(end - time.process_time())
        return seen

    def _fit(self, seconds):
        until = UntilTime(seconds)
        batches = ksd.data.training_batches(
            self.source,
            self.recipe.batch_size,
            seed=self.seed,
            flip=self.recipe.flip,
            start_step=self.steps,
        )
        self.model.fit(
            batches,
            steps_per_epoch=10**6,
            shuffle=False,
            verbose=0,
            callbacks=[until],
        )
        self.steps += until.steps
        return until.steps * self.recipe.batch_size

    def draw(self, count, seed, guidance_scale=None, steps=None):
        return self.model.generate(
            num_images=count,
            num_steps=steps or steps_of(self.model),
            guidance_scale=guidance_scale,
            sampler=ksd.samplers.DPMSolverSampler(),
            seed=seed,
            batch_size=_BATCH,
        )


def steps_of(model):
    """Return the steps of a model in which its networks make `STEPS` calls."""
    return STEPS // (1 + (model.guidance_model is not None))


def facts_of(racer, network):
    """Collect the settings of a racer for the report."""
    backbone, recipe = racer.model.backbone, racer.recipe
    return {
        "version": importlib.metadata.version("keras-simple-diffusion"),
        "network": network,
        "gmacs": round(sum(count_macs(backbone).values()) / 1e9, 3),
        "parameters": backbone.count_params(),
        "batch_size": recipe.batch_size,
        "optimizer": "Adam, betas 0.9, 0.99, warm-up of "
        f"{recipe.warmup_steps} steps; gradient norm at most 1",
        "average": recipe.ema_decay,
        "sampler": f"DPM-Solver++, {steps_of(racer.model)} steps",
    }


def make(images, learning_rate, seed):
    keras.utils.set_random_seed(seed)
    fields = ksd.models.Preset.open(PRESET).recipe
    fields = {**fields, **RECIPE, "learning_rate": learning_rate}
    backbone = ksd.models.DiffusionBackbone.from_preset(
        PRESET, load_weights=False, **NETWORK
    )
    model = ksd.models.DiffusionModel.from_preset(
        PRESET, load_weights=False, backbone=backbone, guidance_scale=1.0
    )
    racer = Racer(images, model, Recipe(**fields), seed)
    racer.facts = {
        "project": f"keras_simple_diffusion on {keras.config.backend()}",
        **facts_of(racer, f"{PRESET} with {NETWORK}"),
    }
    return racer
