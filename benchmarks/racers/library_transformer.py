"""This library's pixel transformer (JiT): its preset for a CPU, as it is."""

import keras

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training.settings import Recipe
from racers.library import Racer
from racers.library import facts_of

PRESET = "jit_mini_64"


def make(images, learning_rate, seed):
    keras.utils.set_random_seed(seed)
    fields = ksd.models.Preset.open(PRESET).recipe
    recipe = Recipe(**{**fields, "learning_rate": learning_rate})
    model = ksd.models.DiffusionModel.from_preset(PRESET, load_weights=False)
    racer = Racer(images, model, recipe, seed)
    backend = keras.config.backend()
    racer.facts = {
        "project": f"keras_simple_diffusion on {backend}, transformer",
        **facts_of(racer, PRESET),
    }
    return racer
