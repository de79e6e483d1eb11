"""BayesFlow's U-ViT, trained as the library trains its own.

    pip install --no-deps bayesflow seaborn pandas

Its perceptrons do not widen, so it has fewer operations; rates are compared
per operation. It is unconditional.
"""

import importlib.metadata
import json
import os
import subprocess
import sys

import bayesflow
import keras
import numpy as np
from keras import ops

from contenders.step_timer import StepTimer
from keras_simple_diffusion.backend.compilation import compile_function


class Training(keras.Model):
    """The epsilon loss under `fit`."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, images, training=False):
        x = ops.cast(images, "float32") / 127.5 - 1.0
        count = ops.shape(x)[0]
        t = keras.random.uniform((count, 1, 1, 1), seed=self.seeds)
        ends = np.arctan(np.exp([-7.5, 7.5])).astype("float32")
        log_snr = -2.0 * ops.log(ops.tan(ends[0] + t * (ends[1] - ends[0])))
        alpha = ops.sqrt(ops.sigmoid(log_snr))
        sigma = ops.sqrt(ops.sigmoid(-log_snr))
        noise = keras.random.normal(ops.shape(x), seed=self.seeds)
        z = alpha * x + sigma * noise
        time = ops.reshape(log_snr, (-1, 1))
        v = self.network((z, time, z[..., :0]), training=training)
        return alpha * v + sigma * z - noise

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return ops.mean(ops.square(y_pred))


def build(setting):
    keras.utils.set_random_seed(0)
    channels, blocks = setting.network["channels"], setting.network["blocks"]
    network = bayesflow.networks.UViT(
        widths=channels[:-1],
        res_blocks=blocks[0],
        transformer_blocks=blocks[-1],
        transformer_width=channels[-1],
        num_heads=4,
        time_emb_dim=setting.network["embedding_dim"],
        transformer_dropout=0.0,
    )
    size = setting.batch_size
    image_shape = (size, *setting.network["image_shape"])
    network.build((image_shape, (size, 1), (*image_shape[:-1], 0)))
    return network


def count(setting):
    """Print the billions of operations of an image; on PyTorch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = build(setting)
    z = torch.zeros((1, *setting.network["image_shape"]))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network((z, torch.zeros((1, 1)), z[..., :0]))
    print(json.dumps(counter.get_total_flops() / 2e9))


def make(setting):
    code = (
        "from contenders import Setting, bayesflow_uvit; "
        f"bayesflow_uvit.count({setting!r})"
    )
    counted = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "KERAS_BACKEND": "torch",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    network = build(setting)
    facts = {
        "gmacs": json.loads(counted.stdout.splitlines()[-1]),
        "parameters": network.count_params(),
        "version": importlib.metadata.version("bayesflow"),
    }
    images, _ = setting.images()
    if setting.task == "train":
        if keras.config.backend() == "torch":
            import torch

            torch.set_grad_enabled(True)  # BayesFlow turned it off.
        model = Training(network)
        optimizer = keras.optimizers.Adam(
            1e-4, use_ema=True, ema_momentum=0.999
        )
        # At the end of `fit` Keras would put the averages in the weights'
        # place, in the same memory, which JAX refuses to donate twice.
        optimizer.finalize_variable_values = lambda variables: None
        model.compile(optimizer=optimizer)
        data = np.tile(images, (setting.repeats, 1, 1, 1))

        def train():
            timer = StepTimer(setting.clock)
            model.fit(
                data,
                np.zeros(len(data), "float32"),
                batch_size=setting.batch_size,
                verbose=0,
                shuffle=False,
                callbacks=[timer],
            )
            return timer.seconds

        return train, facts
    noise, log_snr = map(ops.convert_to_tensor, setting.noise())
    forward = compile_function(
        lambda z, t: network((z, t, z[..., :0]), training=False),
        network.variables,
        setting.compiled,
    )
    time = ops.reshape(log_snr, (-1, 1))

    def predict():
        for _ in range(setting.repeats):
            ops.convert_to_numpy(forward(noise, time))

    return predict, facts
