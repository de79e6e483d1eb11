from keras_simple_diffusion.training.recipe import Recipe as Recipe
from keras_simple_diffusion.training.run import train_run as train_run
