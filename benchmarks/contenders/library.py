"""This library, on the backend of this process."""

import keras
import numpy as np
from keras import ops

import keras_simple_diffusion as ksd
from contenders import NUM_CLASSES
from contenders import NUM_HEADS
from contenders import STEPS
from contenders.step_timer import StepTimer
from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.models.cost import count_macs


def make_backbone(setting):
    """The network; the same weights on every backend, none of them zero."""
    keras.utils.set_random_seed(0)
    network = dict(setting.network)
    is_unet = "attention_levels" in network
    kind = ksd.models.UNetBackbone if is_unet else ksd.models.UViTBackbone
    backbone = kind(
        **network,
        num_heads=NUM_HEADS,
        num_classes=NUM_CLASSES,
        dtype=setting.dtype,
    )
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        values = ops.convert_to_numpy(weight.value)
        if len(weight.shape) > 1 or not np.any(values):
            scale = 0.02 if len(weight.shape) == 1 else 1.0
            fan_in = np.prod(weight.shape[:-1])
            values = rng.normal(0.0, scale / fan_in**0.5, weight.shape)
            weight.assign(values.astype("float32"))
    return backbone


def gmacs(backbone):
    """Billions of multiply-accumulates of one image."""
    return sum(count_macs(backbone).values()) / 1e9


def make(setting):
    backbone = make_backbone(setting)
    facts = {
        "gmacs": gmacs(backbone),
        "parameters": backbone.count_params(),
        "keras": keras.__version__,
    }
    model = ksd.models.DiffusionModel(
        backbone, schedule=ksd.schedules.CosineSchedule()
    )
    images, labels = setting.images()
    if setting.task == "train":
        model.compile(
            optimizer=ksd.optimizers.Adam(1e-4),
            ema_decay=0.999,
            jit_compile=setting.compiled or "auto",
        )
        data = {
            "images": np.tile(images, (setting.repeats, 1, 1, 1)),
            "labels": np.tile(labels, setting.repeats),
        }
        size = setting.batch_size

        def train():
            timer = StepTimer(setting.clock)
            model.fit(
                data,
                batch_size=size,
                verbose=0,
                shuffle=False,
                callbacks=[timer],
            )
            return timer.seconds

        return train, facts
    if setting.task == "sample":
        model.compile(jit_compile=setting.compiled or "auto")

        def sample():
            for _ in range(setting.repeats):
                model.generate(
                    labels=labels,
                    num_steps=STEPS,
                    guidance_scale=setting.guidance,
                    seed=0,
                    batch_size=setting.batch_size,
                )

        return sample, facts
    noise, log_snr = setting.noise()
    inputs = {"noisy_images": noise, "log_snr": log_snr, "labels": labels}
    inputs = {k: ops.convert_to_tensor(v) for k, v in inputs.items()}
    forward = compile_function(
        lambda inputs: backbone(inputs, training=False),
        backbone.variables,
        setting.compiled,
    )
    output = ops.convert_to_numpy(forward(inputs))
    facts["checksum"] = float(np.abs(output).mean())

    def predict():
        for _ in range(setting.repeats):
            ops.convert_to_numpy(forward(inputs))

    return predict, facts
