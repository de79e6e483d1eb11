"""This library without input downsampling: the network begins at 64 pixels.

Network, schedule and loss are those of the ablations' cell `no_downsampling`,
and so is the recipe, except that images are mirrored, as everybody's are.
"""

import dataclasses

import keras
from ablation_cells import CELLS
from ablations import RECIPE

from racers.library import Racer
from racers.library import facts_of

CELL = CELLS["no_downsampling"]


def make(images, learning_rate, seed):
    keras.utils.set_random_seed(seed)
    recipe = dataclasses.replace(RECIPE, learning_rate=learning_rate, flip=True)
    racer = Racer(images, CELL.make_model(), recipe, seed)
    backend = keras.config.backend()
    racer.facts = {
        "project": f"keras_simple_diffusion on {backend}, from 64 pixels",
        **facts_of(racer, f"UViTBackbone with {CELL.network}"),
    }
    return racer
