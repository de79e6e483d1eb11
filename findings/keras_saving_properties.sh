#!/usr/bin/env bash
# Keras 3.15.1: `save_weights` also stores models that a property returns.
#
# A model that helps another one without belonging to it, such as a frozen
# teacher or a weaker model for autoguidance, can be hidden from Keras in a plain
# object, so that it is neither listed in `weights` nor trained. If a property
# returns it, saving finds it nonetheless: it walks through all public names of
# the model, properties included, and stores what they return. The file then
# holds more than `weights`, and a file of the same model without the other one
# is refused: the error names a layer of the hidden model, which the user never
# saved, and a warning blames another version of Keras. The other way round
# nothing is said.
#
# Guessed: files of weights hold what `model.weights` lists.
#
# Expected output:
#   weights listed: 2
#   arrays stored: 4, of them below "teacher": 2
#   student of a teacher from a plain file: ValueError, names "hidden"
#   plain from the file of a student: loaded without a warning
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 h5py==3.16.0 \
    jax==0.10.2
cat > "$place/run.py" <<'END'
import types
import warnings

import h5py
import keras


class Student(keras.Model):
    def __init__(self, teacher=None):
        inputs = keras.Input((3,))
        super().__init__(inputs, keras.layers.Dense(2)(inputs))
        self._hidden = types.SimpleNamespace(teacher=teacher)

    @property
    def teacher(self):
        return self._hidden.teacher


def make_teacher():
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2, name="hidden")(inputs)
    return keras.Model(inputs, outputs)


student, plain = Student(make_teacher()), Student()
student.save_weights("student.weights.h5")
plain.save_weights("plain.weights.h5")
names = []
with h5py.File("student.weights.h5") as file:
    file.visit(names.append)
    arrays = [name for name in names if isinstance(file[name], h5py.Dataset)]
below = [name for name in arrays if name.startswith("teacher/")]
print(f"weights listed: {len(student.weights)}")
print(f'arrays stored: {len(arrays)}, of them below "teacher": {len(below)}')
try:
    student.load_weights("plain.weights.h5")
    raised = "nothing"
except ValueError as error:
    raised = "ValueError"
    if "hidden" in str(error):
        raised += ', names "hidden"'
print(f"student of a teacher from a plain file: {raised}")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    plain.load_weights("student.weights.h5")
told = "with" if caught else "without"
print(f"plain from the file of a student: loaded {told} a warning")
assert (len(student.weights), len(arrays), len(below)) == (2, 4, 2)
assert raised == 'ValueError, names "hidden"' and not caught
END
cd "$place"
KERAS_BACKEND=jax venv/bin/python run.py
