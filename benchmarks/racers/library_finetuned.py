"""This library from the shipped `photos_64`, from which `train` starts.

That model was trained for `TRAINED` minutes of one core on other classes of
Caltech-101 (`train_shipped.sh`). It has never seen a face; this time does not
count. The learning rate does not decay, as nobody's does.

A lever changes one thing of it, to see what that is worth. With the lever
"guided" it draws as `train` lets it draw, guided away from that start, in half
as many steps, so that the number of network evaluations is the same. With "rate
falls" it is `train --minutes` as it comes, with the rate and the average that
it plans for 5 minutes of one core.
"""

import keras

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.training.setup import initialize
from racers.library import Racer
from racers.library import facts_of

PRESET = "photos_64"
TRAINED = 161  # Lines of results without it are of its first 77 minutes.
RECIPE = {"batch_size": 16, "warmup_steps": 20, "ema_decay": 0.98}
_FALLS, _GUIDED = "rate falls", "guided"
# Changes of the recipe, of the model and of the network.
LEVERS = {
    None: {},
    _GUIDED: {},
    _FALLS: {"recipe": {"warmup_steps": 10, "ema_decay": 0.95}},
    "muon": {"recipe": {"optimizer": "muon"}},
    "bfloat16": {"network": {"dtype": "mixed_bfloat16"}},
    "batches of 8": {"recipe": {"batch_size": 8}},
    "batches of 8 in bfloat16": {
        "recipe": {"batch_size": 8},
        "network": {"dtype": "mixed_bfloat16"},
    },
    "no mirroring": {"recipe": {"flip": False}},
    "independent times": {"model": {"stratified": False}},
    "error in v": {"model": {"loss": ksd.losses.DiffusionLoss("v")}},
}


def make(images, learning_rate, seed, lever=None):
    keras.utils.set_random_seed(seed)
    changes = LEVERS[lever]
    preset = ksd.models.Preset.open(PRESET)
    fields = {**preset.recipe, **RECIPE, "learning_rate": learning_rate}
    fields |= changes.get("recipe", {})
    backbone = ksd.models.DiffusionBackbone.from_preset(
        PRESET,
        load_weights=False,
        num_classes=None,
        **changes.get("network", {}),
    )
    model = ksd.models.DiffusionModel.from_preset(
        PRESET,
        load_weights=False,
        backbone=backbone,
        class_names=None,
        guidance_scale=1.0,
        **changes.get("model", {}),
    )
    initialize(model, preset)
    if lever != _GUIDED:
        model.guidance_model, model.guidance_scale = None, 1.0
    falling = 0.3 if lever == _FALLS else 0.0
    racer = Racer(images, model, Recipe(**fields), seed, falling)
    backend = keras.config.backend()
    racer.facts = {
        "project": f"keras_simple_diffusion on {backend}, from {PRESET}",
        "start_minutes": TRAINED,
        **facts_of(racer, PRESET),
    }
    return racer
