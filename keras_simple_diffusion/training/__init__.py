from keras_simple_diffusion.training.lifecycle import Interrupted as Interrupted
from keras_simple_diffusion.training.run import resume_run as resume_run
from keras_simple_diffusion.training.run import train_run as train_run
from keras_simple_diffusion.training.settings import Recipe as Recipe
from keras_simple_diffusion.training.settings import RunSettings as RunSettings
from keras_simple_diffusion.training.snapshots import reconstruct as reconstruct
