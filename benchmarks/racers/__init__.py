"""Racers of `race.py`: one file per project.

Each file defines `make(images, learning_rate, seed)`, which returns an object
with

- `facts`, a dict of its settings;
- `train(seconds)`, which continues training for this number of seconds of
  processor time, and returns the number of images it has trained on;
- `draw(count, seed)`, which returns `uint8` images `(count, H, W, 3)`,
  generated
  with averaged weights.
"""

# Evaluations of the network that drawing an image takes, for everybody.
STEPS = 24
