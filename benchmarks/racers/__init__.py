"""Who takes part in `race.py`: one file a project.

Each has `make(images, learning_rate, seed)`, which returns an object with

- `facts`, a dict of its settings;
- `train(seconds)`, which goes on training for so many seconds of processor
  time, and returns the images it has trained on;
- `draw(count, seed)`, which returns `uint8` images `(count, H, W, 3)`, drawn
  with averaged weights.
"""

# Evaluations of the network that drawing an image takes, for everybody.
STEPS = 24
