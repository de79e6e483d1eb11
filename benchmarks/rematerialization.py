"""Measure the memory kept for the gradient with rematerialisation.

    KERAS_BACKEND=jax python benchmarks/rematerialization.py

Nothing is trained: JAX reports the shapes of the tensors that the forward pass
keeps for the backward pass, and XLA the memory that a compiled training step
needs in addition to weights, optimizer and batch.
"""

import argparse
import itertools
import json

import jax
import keras
import numpy as np
from keras import ops

import keras_simple_diffusion as ksd


def abstract_backbone(preset, **kwargs):
    """Make a network without weights, which may be larger than the memory."""
    with keras.StatelessScope(initialize_variables=False):
        return ksd.models.DiffusionBackbone.from_preset(
            preset, load_weights=False, **kwargs
        )


def make_inputs(backbone, batch_size):
    shapes = {
        "noisy_images": (batch_size, *backbone.image_shape),
        "log_snr": (batch_size,),
    }
    inputs = {k: np.zeros(v, "float32") for k, v in shapes.items()}
    if backbone.num_classes is not None:
        inputs["labels"] = np.zeros(batch_size, "int32")
    return inputs


def kept_bytes(backbone, batch_size):
    """Bytes that the forward pass hands to the backward pass, an image."""
    inputs = make_inputs(backbone, batch_size)
    values, others = (
        [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
        for variables in (
            backbone.trainable_variables,
            backbone.non_trainable_variables,
        )
    )

    def backward(values, others):
        def loss(values):
            outputs, _ = backbone.stateless_call(
                values, others, inputs, training=True
            )
            return ops.sum(ops.square(outputs))

        return jax.vjp(loss, values)[1]

    kept = jax.tree.leaves(jax.eval_shape(backward, values, others))
    total = sum(x.size * x.dtype.itemsize for x in kept)
    weights = sum(x.size * x.dtype.itemsize for x in values)
    return (total - weights) / batch_size


def step_bytes(backbone, batch_size):
    """Bytes of temporary memory of a compiled training step, an image."""
    model = ksd.models.DiffusionModel(backbone)
    model.optimizer.build(model.trainable_variables)
    state = [
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    ]
    inputs = make_inputs(backbone, batch_size)
    data = {"images": inputs["noisy_images"], "labels": inputs.get("labels")}
    data = {k: v for k, v in data.items() if v is not None}
    step = jax.jit(model.train_step, donate_argnums=0)
    memory = step.lower(state, (data,)).compile().memory_analysis()
    return memory.temp_size_in_bytes / batch_size


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="uvit_small_64")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    types = ("residual", "attention", "transformer")
    choices = [
        types_of_one
        for count in range(len(types) + 1)
        for types_of_one in itertools.combinations(types, count)
    ]
    known = {}
    for rematerialize in choices:
        keras.utils.clear_session()
        options = {"rematerialize": rematerialize, "dtype": args.dtype}
        backbone = abstract_backbone(args.preset, **options)
        result = {"kept_mb": kept_bytes(backbone, args.batch_size) / 1e6}
        if result["kept_mb"] in known.values():
            continue  # There are no such blocks.
        known[rematerialize] = result["kept_mb"]
        if args.compile:
            backbone = ksd.models.DiffusionBackbone.from_preset(
                args.preset, load_weights=False, **options
            )
            result["step_mb"] = step_bytes(backbone, args.batch_size) / 1e6
        result = {k: round(v, 1) for k, v in result.items()}
        row = {"preset": args.preset, "rematerialize": rematerialize, **result}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
