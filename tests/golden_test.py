"""One set of weights and one noise give the same images on every backend.

`golden/images.npz` was written on JAX, by

    KERAS_BACKEND=jax python -m tests.golden_test

and every backend is compared with it. Weights and noise come from NumPy, since
initialisers draw differently on each backend. Measured on 2 CPU cores, in
units of the [-1, 1] range: networks 3.0e-7, images after 32 steps 1.3e-6.
"""

import pathlib

import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend.compilation import compile_function
from tests.helpers.models import randomize

FILE = pathlib.Path(__file__).parent / "golden" / "images.npz"
NETWORKS = {
    "unet": lambda: ksd.models.UNetBackbone(
        (8, 12, 3), (8, 12), (1, 1), num_heads=2, num_classes=3, embedding_dim=8
    ),
    "uvit": lambda: ksd.models.UViTBackbone(
        (8, 12, 3), (8, 12), (1, 2), num_heads=2, num_classes=3, embedding_dim=8
    ),
}
SAMPLERS = {
    "ddim": ksd.samplers.DDIMSampler(),
    "ddpm": ksd.samplers.DDPMSampler(),
}


def make_backbone(name):
    return randomize(NETWORKS[name](), scale=0.7)


def inputs():
    rng = np.random.RandomState(1)
    return {
        "noisy_images": rng.normal(size=(2, 8, 12, 3)).astype("float32"),
        "log_snr": np.array([-4.3, 1.7], "float32"),
        "labels": np.array([1, 3], "int32"),
    }


def draw(backbone, sampler):
    """32 guided steps, before rounding to uint8."""
    model = ksd.models.DiffusionModel(backbone)

    def predict(noisy_images, log_snr, labels):
        labels = ops.convert_to_tensor(np.array(labels, "int32"))
        return backbone(
            {
                "noisy_images": noisy_images,
                "log_snr": log_snr,
                "labels": labels,
            }
        )

    def denoise(noisy_images, log_snr):
        v = ksd.samplers.classifier_free_guidance(
            predict(noisy_images, log_snr, [0, 2]),
            predict(noisy_images, log_snr, [3, 3]),
            1.5,
        )
        x = ksd.ops.convert_prediction(v, noisy_images, log_snr, "v", "x")
        return ops.clip(x, -1.0, 1.0)

    grid = ksd.samplers.log_snr_grid(model.schedule, 32)
    noise = ops.convert_to_tensor(inputs()["noisy_images"])

    def sample(noise):
        return sampler.sample(denoise, noise, grid, seed=4, return_clean=True)

    compiled = compile_function(sample, backbone.variables, jit_compile=False)
    return ops.convert_to_numpy(compiled(noise))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    output = ops.convert_to_numpy(make_backbone(name)(inputs()))
    expected = np.load(FILE)[name]
    difference = np.abs(output - expected).max()
    print(f"{name}: largest difference {difference:.1e}")
    assert difference < 1e-5
    assert expected.std() > 0.1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_images_after_32_steps(name, sampler):
    images = draw(make_backbone(name), SAMPLERS[sampler])
    expected = np.load(FILE)[f"{name}_{sampler}"]
    difference = np.abs(images - expected).max()
    print(f"{name} {sampler}: largest difference {difference:.1e}")
    assert difference < 1e-4
    # Neither blank nor saturated, which would agree for no good reason.
    assert expected.std() > 0.1 and (np.abs(expected) < 0.99).mean() > 0.3


if __name__ == "__main__":
    arrays = {}
    for name in NETWORKS:
        backbone = make_backbone(name)
        arrays[name] = ops.convert_to_numpy(backbone(inputs()))
        for sampler in SAMPLERS:
            arrays[f"{name}_{sampler}"] = draw(backbone, SAMPLERS[sampler])
    for key, value in arrays.items():
        print(key, value.std(), (np.abs(value) < 0.99).mean())
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **arrays)
