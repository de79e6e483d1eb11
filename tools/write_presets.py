"""Write the folders of the built-in configurations from the table below.

Run it after a change of the table:

    python tools/write_presets.py
"""

import datetime
import json

import keras
import keras_hub

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.utils import presets

# name -> description, backbone class, its arguments, arguments of the task,
# recipe.
CONFIGURATIONS = {
    "uvit_digits_16": (
        "A U-ViT for 16 px digits that trains in minutes on a CPU.",
        "UViTBackbone",
        {
            "image_shape": (16, 16, 1),
            "channels": (32, 128),
            "blocks": (2, 4),
            "num_heads": 4,
            "dropout": 0.1,
            "dropout_max_size": 8,
            "num_classes": 10,
            "embedding_dim": 128,
        },
        {
            "schedule": ksd.schedules.ShiftedCosineSchedule(16, noise_size=16),
            "loss": ksd.losses.DiffusionLoss(error_type="v"),
            "num_steps": 64,
            "guidance_scale": 1.5,
        },
        {
            "steps": 4000,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "warmup_steps": 50,
            "ema_decay": 0.999,
        },
    ),
    "uvit_small_64": (
        "A small U-ViT for 64 px pictures and one GPU.",
        "UViTBackbone",
        {
            "image_shape": (64, 64, 3),
            "channels": (32, 64, 256),
            "blocks": (2, 2, 6),
            "num_heads": 4,
            "dropout": 0.1,
            "num_classes": None,
            "embedding_dim": 256,
        },
        {
            "schedule": ksd.schedules.ShiftedCosineSchedule(64, noise_size=64),
            "loss": ksd.losses.DiffusionLoss(error_type="v"),
            "num_steps": 128,
        },
        {
            "steps": 100_000,
            "batch_size": 64,
            "learning_rate": 2e-4,
            "warmup_steps": 1000,
            "flip": True,
        },
    ),
}


def serialized(cls, config):
    """What `keras.saving.serialize_keras_object` gives, without building."""
    return {
        "module": cls.__module__,
        "class_name": cls.__name__,
        "config": config,
        "registered_name": keras.saving.get_registered_name(cls),
    }


def write(name, description, class_name, network, task, recipe):
    """Write one preset folder."""
    folder = presets.preset_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    cls = getattr(ksd.models, class_name)
    backbone = serialized(cls, network)
    task = {
        key: keras.saving.serialize_keras_object(value)
        for key, value in task.items()
    }
    task["backbone"] = backbone
    built = cls(**network)
    metadata = {
        "description": description,
        "keras_version": keras.__version__,
        "keras_hub_version": keras_hub.__version__,
        "parameter_count": built.count_params(),
        "macs": sum(count_macs(built).values()),
        "date_saved": datetime.date.today().isoformat(),
    }
    files = {
        "config.json": backbone,
        "task.json": serialized(ksd.models.DiffusionModel, task),
        "metadata.json": metadata,
        "recipe.json": recipe,
    }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    for name, configuration in CONFIGURATIONS.items():
        write(name, *configuration)
