#!/usr/bin/env bash
# TensorFlow 2.21.0 (and Keras 3.15.1 on it): a function with a SiLU is never
# forgotten.
#
# `tf.nn.silu` has a custom gradient, to keep one tensor less in training. In a
# graph each use of it registers a gradient function under a new name in a
# process-wide table, from which nothing is removed, and that function holds the
# tensors of the graph. So each `tf.function` that contains a SiLU keeps its
# traced graphs until the process ends, even if it is only for inference and has
# been deleted. The same arithmetic written as x * sigmoid(x) is freed. Networks
# of diffusion models are full of SiLU, and a program for each number of images
# grows a server by megabytes a size.
#
# Guessed: with the last reference to a `tf.function` its graphs are freed.
#
# Expected output:
#   relu: 0 of 5 graphs are left
#   x * sigmoid(x): 0 of 5 graphs are left
#   tf.nn.silu: 5 of 5 graphs are left
#   keras.ops.silu: 5 of 5 graphs are left
#   equal values: True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
cat > "$place/run.py" <<'END'
import gc
import weakref

import keras
import tensorflow as tf


def product(x):
    return x * tf.sigmoid(x)


def count_left(activation):
    graphs = []
    for size in range(1, 6):
        function = tf.function(lambda x: activation(x))
        function(tf.zeros(size))
        shape = tf.TensorSpec(size)
        graph = function.get_concrete_function(shape).graph
        graphs.append(weakref.ref(graph))
        del function, graph
    gc.collect()
    return sum(graph() is not None for graph in graphs)


found = {}
for name, activation in {
    "relu": tf.nn.relu,
    "x * sigmoid(x)": product,
    "tf.nn.silu": tf.nn.silu,
    "keras.ops.silu": keras.ops.silu,
}.items():
    found[name] = count_left(activation)
    print(f"{name}: {found[name]} of 5 graphs are left")
x = tf.linspace(-20.0, 20.0, 1001)
is_equal = bool(tf.reduce_all(product(x) == tf.nn.silu(x)))
print("equal values:", is_equal)
assert list(found.values()) == [0, 0, 5, 5], "the behaviour has changed"
assert is_equal, "the behaviour has changed"
END
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$place/venv/bin/python" \
    "$place/run.py" 2> /dev/null
