"""The library's network written by hand, in the framework of this process."""

import functools

import keras
import numpy as np
from keras import ops

from contenders import NUM_HEADS
from contenders import library


def make(setting):
    backbone = library.make_backbone(setting)
    weights = {
        weight.path: np.array(ops.convert_to_numpy(weight.value))
        for weight in backbone.weights
    }
    options = {
        "blocks": tuple(setting.network["blocks"]),
        "heads": NUM_HEADS,
        "attention": tuple(setting.network.get("attention_levels", ())),
    }
    facts = {"gmacs": library.gmacs(backbone)}
    if keras.config.backend() == "jax":
        return _jax(setting, weights, options, facts)
    return _torch(setting, weights, options, facts)


def _jax(setting, weights, options, facts):
    import jax
    import jax.numpy as jnp
    from twins import jax_networks

    apply = functools.partial(jax_networks.network, **options)
    weights = jax.tree.map(jnp.array, weights)
    images, labels = map(jnp.array, setting.images())
    if setting.task == "train":
        step = jax_networks.make_step(apply)
        state = [jax_networks.initial_state(weights)]
        key = jax.random.key(0)

        def train():
            for i in range(setting.repeats):
                key_of_step = jax.random.fold_in(key, i)
                state[0], loss = step(state[0], key_of_step, images, labels)
            loss.block_until_ready()

        return train, facts
    noise, log_snr = map(jnp.array, setting.noise())
    forward = jax.jit(apply)
    output = np.array(forward(weights, noise, log_snr, labels))
    facts["checksum"] = float(np.abs(output).mean())

    def predict():
        for _ in range(setting.repeats):
            np.array(forward(weights, noise, log_snr, labels))

    return predict, facts


def _torch(setting, weights, options, facts):
    import torch
    from twins import torch_networks

    device = "cuda" if torch.cuda.is_available() else "cpu"
    apply = functools.partial(torch_networks.network, **options)
    if setting.compiled:
        apply = torch.compile(apply)
    weights = torch_networks.from_library(weights)
    weights = {name: w.to(device) for name, w in weights.items()}
    images, labels = (
        torch.tensor(array, device=device) for array in setting.images()
    )
    labels = labels.long()
    if setting.task == "train":
        training = torch_networks.Training(weights, apply)

        def train():
            for _ in range(setting.repeats):
                loss = training.step(images, labels)
            loss.item()

        return train, facts
    noise, log_snr = (
        torch.tensor(array, device=device) for array in setting.noise()
    )

    @torch.inference_mode()
    def predict():
        for _ in range(setting.repeats):
            apply(weights, noise, log_snr, labels).cpu()

    with torch.inference_mode():
        output = apply(weights, noise, log_snr, labels)
    facts["checksum"] = float(output.abs().mean())
    return predict, facts
