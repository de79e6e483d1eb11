"""Write the folders of the built-in configurations from the table below.

Run it after a change of the table, for all or for those named; networks are
built without memory for their weights, which PyTorch can do:

    KERAS_BACKEND=torch python tools/write_presets.py [NAME ...]

Where the papers say nothing, or disagree with themselves, `docs/presets.md`
says what was chosen and why.
"""

import datetime
import json
import sys

import keras
import keras_hub

import keras_simple_diffusion as ksd
from keras_simple_diffusion.converters import jit
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.utils import presets

DiffusionLoss = ksd.losses.DiffusionLoss
Shifted = ksd.schedules.ShiftedCosineSchedule
PretrainedTextEncoder = ksd.text.PretrainedTextEncoder
TextTransformer = ksd.text.TextTransformer
Interpolated = ksd.schedules.InterpolatedCosineSchedule
Normal = ksd.schedules.NormalSchedule


def serialized(cls, config):
    """What `keras.saving.serialize_keras_object` gives, without building."""
    return {
        "module": cls.__module__,
        "class_name": cls.__name__,
        "config": config,
        "registered_name": keras.saving.get_registered_name(cls),
    }


def _learned_encoder(embedding_dim):
    """A text encoder that is trained together with the network."""
    config = {
        "vocabulary": None,  # That of the captions it meets.
        "embedding_dim": embedding_dim,
        "num_layers": 2,
        "num_heads": 4,
        "sequence_length": 24,
    }
    return serialized(TextTransformer, config)


_PHOTOS_NETWORK = {
    "channels": (24, 64, 128, 256),
    "blocks": (1, 1, 2, 3),
    "num_heads": 4,
    "dropout": 0.1,
    "num_classes": 16,
    "embedding_dim": 128,
}
_PHOTOS_TASK = {
    "prediction_type": "x",
    "loss": DiffusionLoss("v", ksd.losses.SigmoidWeighting(0.0)),
    "stratified": True,
    "sampler": ksd.samplers.DPMSolverSampler(),
    "num_steps": 24,
    "guidance_scale": 2.0,
}
_PHOTOS_RECIPE = {
    "steps": 3400,
    "batch_size": 16,
    "learning_rate": 8e-4,
    "warmup_steps": 50,
    "ema_decay": 0.998,
    "flip": True,
}
# name -> description, backbone class, its arguments, arguments of the task,
# recipe. The task is a `TextToImage` if there is a text encoder among them.
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
            "schedule": Shifted(16, noise_size=16),
            "loss": DiffusionLoss("v"),
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
    "uvit_caltech_64": (
        "A class-conditional U-ViT for 64 px photographs and minutes of a GPU.",
        "UViTBackbone",
        {
            "image_shape": (64, 64, 3),
            "channels": (96, 384),
            "blocks": (2, 6),
            "num_heads": 6,
            "dropout": 0.2,
            "num_classes": 102,
            "embedding_dim": 192,
            "downsampling": "dwt",
            "downsampling_factor": 2,
        },
        {
            "schedule": Interpolated(64, 32, 64, log_snr_max=5.0),
            "prediction_type": "x",
            "loss": DiffusionLoss("v"),
            "sampler": ksd.samplers.DPMSolverSampler(),
            "num_steps": 16,
            "guidance_scale": 2.0,
        },
        {
            "steps": 6000,
            "batch_size": 256,
            "learning_rate": 6e-4,
            "warmup_steps": 300,
            "ema_decay": 0.999,
            "flip": True,
        },
    ),
    "uvit_emoji_64": (
        "A text-conditional U-ViT for 64 px emoji and hours of a CPU.",
        "UViTBackbone",
        {
            "image_shape": (64, 64, 3),
            "channels": (24, 64, 128, 256),
            "blocks": (1, 1, 2, 4),
            "num_heads": 4,
            "num_classes": None,
            "embedding_dim": 192,
            "context_dim": 192,
        },
        {
            "text_encoder": _learned_encoder(192),
            "schedule": Shifted(64, noise_size=64, log_snr_max=4.0),
            "prediction_type": "x",
            "loss": DiffusionLoss("v", ksd.losses.SigmoidWeighting(0.0)),
            "stratified": True,
            "sampler": ksd.samplers.DPMSolverSampler(),
            "num_steps": 24,
            "guidance_scale": 3.0,
        },
        {
            "steps": 4000,
            "batch_size": 16,
            "learning_rate": 8e-4,
            "warmup_steps": 50,
            "ema_decay": 0.998,
        },
    ),
    "uvit_mini_64": (
        "A U-ViT for 64 px photographs that trains in minutes on a CPU.",
        "UViTBackbone",
        {
            "image_shape": (64, 64, 3),
            "channels": (16, 32, 64, 128),
            "blocks": (1, 1, 1, 2),
            "num_heads": 4,
            "dropout": 0.1,
            "num_classes": 10,
            "embedding_dim": 128,
        },
        {
            "schedule": Shifted(64, noise_size=64, log_snr_max=4.0),
            "prediction_type": "x",
            "loss": DiffusionLoss("v"),
            "sampler": ksd.samplers.DPMSolverSampler(),
            "num_steps": 24,
            "guidance_scale": 2.0,
        },
        {
            "steps": 4000,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "ema_decay": 0.995,
            "flip": True,
        },
    ),
    "uvit_photos_64": (
        "A U-ViT for 64 px photographs and an hour of a CPU.",
        "UViTBackbone",
        {"image_shape": (64, 64, 3), **_PHOTOS_NETWORK},
        {
            "schedule": Shifted(64, noise_size=64, log_snr_max=4.0),
            **_PHOTOS_TASK,
        },
        _PHOTOS_RECIPE,
    ),
    "uvit_photos_128": (
        "The same network for 128 px, behind the wavelet.",
        "UViTBackbone",
        {
            "image_shape": (128, 128, 3),
            **_PHOTOS_NETWORK,
            "downsampling": "dwt",
        },
        {
            "schedule": Shifted(128, noise_size=64, log_snr_max=4.0),
            **_PHOTOS_TASK,
        },
        _PHOTOS_RECIPE,
    ),
    "uvit_photos_text_64": (
        "The network of photos_64 for photographs with captions.",
        "UViTBackbone",
        {
            "image_shape": (64, 64, 3),
            **_PHOTOS_NETWORK,
            "num_classes": None,
            "context_dim": 128,
        },
        {
            **_PHOTOS_TASK,
            "text_encoder": _learned_encoder(128),
            "schedule": Shifted(64, noise_size=64, log_snr_max=4.0),
            "guidance_scale": 3.0,
        },
        {**_PHOTOS_RECIPE, "flip": False},
    ),
    "uvit_small_64": (
        "A small U-ViT for 64 px images and one GPU.",
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
            "schedule": Shifted(64, noise_size=64),
            "loss": DiffusionLoss("v"),
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


def _small_jit(patch_size, width, depth, task, **recipe):
    return (
        "PixelTransformerBackbone",
        {
            "image_shape": (64, 64, 3),
            "patch_size": patch_size,
            "width": width,
            "depth": depth,
            "num_heads": 4,
            "bottleneck_dim": 64,
            "num_class_tokens": 8,
            "class_token_block": depth // 3,
            "dropout": 0.1,
            "noise_scale": 0.5,
            "num_classes": None,
        },
        {
            "schedule": Normal(image_size=64, noise_size=128),
            "loss": jit.velocity_loss(0.5),
            "prediction_type": "x",
            "stratified": True,
            "sampler": ksd.samplers.DPMSolverSampler(),
            **task,
        },
        {**recipe, "flip": True},
    )


CONFIGURATIONS |= {
    "jit_mini_64": (
        "A pixel transformer for 64 px photographs and minutes of a CPU.",
        *_small_jit(
            patch_size=8,
            width=192,
            depth=8,
            task={"num_steps": 24},
            steps=4000,
            batch_size=16,
            learning_rate=1e-3,
            warmup_steps=100,
            ema_decay=0.995,
        ),
    ),
    "jit_small_64": (
        "A pixel transformer for 64 px images and one GPU.",
        *_small_jit(
            patch_size=4,
            width=384,
            depth=12,
            task={"num_steps": 64},
            steps=100_000,
            batch_size=64,
            learning_rate=2e-4,
            warmup_steps=1000,
            ema_decay=0.9999,
        ),
    ),
}


def _unet(size, steps, schedule, beta_2=0.99, base_size=None, **network):
    return (
        f"U-Net of simple diffusion for ImageNet at {size} px.",
        "UNetBackbone",
        {
            "image_shape": (size, size, 3),
            **network,
            "num_heads": 4,
            "dropout": 0.1,
            "dropout_max_size": 16,
            "num_classes": 1000,
            "embedding_dim": 1024,
        },
        {
            "schedule": schedule,
            "loss": DiffusionLoss("epsilon", base_size=base_size),
            "label_dropout": 0.1,
            "num_steps": 512,
        },
        {
            "steps": steps,
            "batch_size": 512,
            "learning_rate": 5e-5,
            "beta_1": 0.9,
            "beta_2": beta_2,
            "epsilon": 1e-12,
            "warmup_steps": 10_000,
            "clip_norm": 1.0,
            "ema_decay": 0.9999,
            "flip": True,
        },
    )


def _uvit_network(image_shape, downsampling_factor):
    network = {
        "image_shape": image_shape,
        "channels": (128, 256, 512, 2048),
        "blocks": (2, 2, 2, 36),
        "num_heads": 4,
        "dropout": 0.2,
        "dropout_max_size": 16,
        "num_classes": None,
        "embedding_dim": 1024,
    }
    if downsampling_factor > 1:
        network["downsampling"] = "dwt"
        network["downsampling_factor"] = downsampling_factor
    return network


def _uvit_recipe(steps, flip):
    return {
        "steps": steps,
        "batch_size": 2048,
        "learning_rate": 1e-4,
        "beta_1": 0.9,
        "beta_2": 0.99,
        "epsilon": 1e-12,
        "warmup_steps": 10_000,
        "clip_norm": 1.0,
        "ema_decay": 0.9999,
        "flip": flip,
    }


def _uvit(size, guidance_scale, base_size=None):
    network = _uvit_network((size, size, 3), size // 128)
    return (
        f"U-ViT of simple diffusion for ImageNet at {size} px.",
        "UViTBackbone",
        {**network, "num_classes": 1000},
        {
            "schedule": Interpolated(size, 32, min(size, 256)),
            "loss": DiffusionLoss("v", base_size=base_size),
            "label_dropout": 0.1,
            "num_steps": 512,
            "guidance_scale": guidance_scale,
        },
        _uvit_recipe(500_000, flip=True),
    )


def _uvit_text(height, width, downsampling_factor, **extra):
    network = _uvit_network((height, width, 3), downsampling_factor)
    sides = f"{height} px" if height == width else f"{height} x {width} px"
    size = min(height, width)
    return (
        f"U-ViT of simple diffusion for text to image at {sides}, with T5-XXL.",
        "UViTBackbone",
        {
            **network,
            "transformer_levels": (2, 3),
            "dropout": (0.0, 0.0, 0.2, 0.2),
            "context_dim": 4096,
            **extra,
        },
        {
            "text_encoder": serialized(
                PretrainedTextEncoder,
                {
                    "preset": "t5_1.1_xxl",
                    "sequence_length": 128,
                    "embedding_dim": 4096,
                    "dtype": "bfloat16",
                },
            ),
            "schedule": Interpolated(size, 32, min(size, 256)),
            "loss": DiffusionLoss("v", base_size=32 if size == 512 else None),
            "caption_dropout": 0.1,
            "num_steps": 512,
            "guidance_scale": 4.0,
        },
        _uvit_recipe(700_000, flip=False),
    )


def _sid2(kind, size, grid, bias):
    network = {
        "image_shape": (size, size, 3),
        "channels": (128, 256, 512, 1024),
        "blocks": (3, 3, 3, 16),
        "up_blocks": (3, 3, 3),
        "transformer_levels": (2, 3),
        "num_heads": 4,
        "dropout": (0.0, 0.0, 0.1, 0.1),
        "num_classes": 1000,
        "embedding_dim": 1024,
    }
    if size > grid:
        network["downsampling"] = "conv"
        network["downsampling_factor"] = size // grid
    return (
        f"Residual U-ViT of SiD2, {kind}, for ImageNet at {size} px.",
        "ResidualUViTBackbone",
        network,
        {
            "schedule": Interpolated(
                size, 32, size, log_snr_min=-10.0, log_snr_max=10.0
            ),
            "loss": DiffusionLoss(
                "epsilon", weighting=ksd.losses.SigmoidWeighting(bias)
            ),
            "label_dropout": 0.1,
            "num_steps": 512,
        },
        {
            "steps": 1_000_000,
            "batch_size": 1024,
            "learning_rate": 1e-4,
            "beta_1": 0.9,
            "beta_2": 0.99,
            "epsilon": 1e-12,
            "warmup_steps": 10_000,
            "clip_norm": 1.0,
            "ema_decay": 0.9999,
            "flip": True,
        },
    )


def _jit(letter, size, width, depth, num_heads, bottleneck_dim):
    scale = size / 256
    return (
        f"Pixel transformer JiT-{letter} for ImageNet at {size} px.",
        "PixelTransformerBackbone",
        {
            "image_shape": (size, size, 3),
            "patch_size": size // 16,
            "width": width,
            "depth": depth,
            "num_heads": num_heads,
            "bottleneck_dim": bottleneck_dim,
            **jit.settings_of_depth(depth),
            "noise_scale": scale,
            "num_classes": 1000,
        },
        jit.task_arguments(depth, size, scale),
        {
            "steps": 750_000,
            "batch_size": 1024,
            "learning_rate": 2e-4,
            "beta_1": 0.9,
            "beta_2": 0.95,
            "epsilon": 1e-8,
            "warmup_steps": 6250,
            "ema_decay": 0.9999,
            "flip": True,
        },
    )


CONFIGURATIONS |= {
    f"jit_{letter.lower()}{size // 16}_imagenet_{size}": _jit(
        letter, size, *arguments
    )
    for letter, *arguments in (
        ("B", 768, 12, 12, 128),
        ("L", 1024, 24, 16, 128),
        ("H", 1280, 32, 16, 256),
        ("G", 1664, 40, 16, 256),
    )
    for size in (256, 512)
}
CONFIGURATIONS |= {
    "unet_imagenet_128": _unet(
        128,
        1_500_000,
        Shifted(128, noise_size=32),
        beta_2=0.999,
        channels=(128, 256, 512, 1024, 1024),
        blocks=(3, 4, 4, 12, 4),
        attention_levels=(3, 4),
    ),
    "unet_imagenet_256": _unet(
        256,
        2_000_000,
        Shifted(256, noise_size=32),
        channels=(128, 128, 256, 512, 1024, 1024),
        blocks=(1, 2, 2, 4, 12, 4),
        attention_levels=(4, 5),
    ),
    "unet_imagenet_512": _unet(
        512,
        2_000_000,
        Shifted(512, noise_size=64),
        base_size=32,
        channels=(256, 384, 512, 1024, 1024),
        blocks=(3, 3, 4, 12, 4),
        attention_levels=(3, 4),
        downsampling="dwt",
        downsampling_factor=4,
    ),
    "uvit_imagenet_128": _uvit(128, guidance_scale=1.0),
    "uvit_imagenet_256": _uvit(256, guidance_scale=1.1),
    "uvit_imagenet_512": _uvit(512, guidance_scale=1.1, base_size=32),
    "uvit_text_256": _uvit_text(256, 256, 2),
    "uvit_text_512": _uvit_text(512, 512, 4),
    "uvit_text_384x640": _uvit_text(384, 640, 4, portrait_flag=True),
    "sid2_small_imagenet_128": _sid2("small", 128, 128, bias=0.0),
    "sid2_small_imagenet_256": _sid2("small", 256, 128, bias=-1.0),
    "sid2_small_imagenet_512": _sid2("small", 512, 128, bias=-3.0),
    "sid2_flop_heavy_imagenet_256": _sid2("flop heavy", 256, 256, bias=-1.0),
    "sid2_flop_heavy_imagenet_512": _sid2("flop heavy", 512, 256, bias=-3.0),
}


def files(name):
    """The files of a preset that need no network, by name."""
    _, class_name, network, task, recipe = CONFIGURATIONS[name]
    backbone = serialized(getattr(ksd.models, class_name), network)
    content = {"config.json": backbone, "recipe.json": recipe}
    if task is not None:
        is_text = "text_encoder" in task
        cls = ksd.models.TextToImage if is_text else ksd.models.DiffusionModel
        task = {
            key: keras.saving.serialize_keras_object(value)
            for key, value in task.items()
        }
        task["backbone"] = backbone
        content["task.json"] = serialized(cls, task)
    return content


def build(name):
    """The backbone of a preset, without memory for its weights."""
    _, class_name, network, _, _ = CONFIGURATIONS[name]
    with keras.device("meta"):
        return getattr(ksd.models, class_name)(**network)


def metadata(name):
    """The preset's `metadata.json`."""
    backbone = build(name)
    return {
        "description": CONFIGURATIONS[name][0],
        "keras_version": keras.__version__,
        "keras_hub_version": keras_hub.__version__,
        "parameter_count": backbone.count_params(),
        "macs": sum(count_macs(backbone).values()),
        "date_saved": datetime.date.today().isoformat(),
    }


if __name__ == "__main__":
    if keras.backend.backend() != "torch":
        raise SystemExit("Run it with KERAS_BACKEND=torch.")
    for name in sys.argv[1:] or CONFIGURATIONS:
        folder = presets.preset_folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        content = {**files(name), "metadata.json": metadata(name)}
        for file, value in content.items():
            (folder / file).write_text(json.dumps(value, indent=2) + "\n")
        print(f"{name}: {content['metadata.json']['parameter_count']:,}")
