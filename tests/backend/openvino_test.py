"""OpenVINO draws the images of the other backends, and does not train.

    KERAS_BACKEND=openvino python -m tests.backend.openvino_test FILE

draws with OpenVINO, in a process of its own.
"""

import importlib.util
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.app import noise
from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.backend.compilation import cond
from keras_simple_diffusion.backend.compilation import fori_loop
from tests.helpers.commands import environment
from tests.helpers.commands import run_command
from tests.helpers.models import make_backbone
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import randomize

ROOT = pathlib.Path(__file__).parents[2]
NEEDS_OPENVINO = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason='needs pip install -e ".[openvino]"',
)


def results_of_classes():
    model = make_model(num_steps=3, guidance_scale=2.0)
    randomize(model.backbone)
    wanted = {"labels": [2, 0, 1], "seed": 5}
    samplers = {
        "ddim": ksd.samplers.DDIMSampler(),
        "adjusted": ksd.samplers.DDIMSampler(adjusted=True),
        "ddpm": ksd.samplers.DDPMSampler(),
        "dpm": ksd.samplers.DPMSolverSampler(),
        "heun": ksd.samplers.HeunSampler(churn=1.0),
    }
    for name, sampler in samplers.items():
        yield name, model.generate(**wanted, sampler=sampler)
    steps = []
    images = model.generate(
        **wanted,
        guidance_interval=(-3.0, 3.0),
        guidance_rescale=0.5,
        clipping="dynamic",
        on_step_end=lambda step: steps.append(step.images),
    )
    yield "interval", images
    yield "on_step_end", np.stack(steps)
    _, noisy, clean = model.generate(**wanted, return_steps=True)
    yield "noisy", noisy
    yield "clean", clean
    images = make_data(3)["images"]
    mask = np.eye(4, dtype=bool)
    yield "edit", model.edit(images, **wanted)
    yield "inpaint", model.inpaint(images, mask, **wanted)
    yield "upscale", model.upscale(images[:, ::2, ::2], **wanted)
    conditions = {"labels": [1]}
    noisy, clean = noise.denoise(model, images[0], 0.4, conditions, seed=3)
    yield "noised to a level", noisy
    yield "predicted from it", clean
    bound = ksd.metrics.bits_per_dimension(model, images, [2, 0, 1], 4)
    yield "bits", bound.bits


def results_of_texts():
    texts = ["red ship", "blue cat"]
    backbone = make_backbone(None, context_dim=8)
    model = ksd.models.TextToImage(
        randomize(backbone), randomize(make_text_encoder(texts))
    )
    yield "texts", model.generate(texts, seed=3, num_steps=2)


def power(values=None):
    """Compute `w^6` of a variable, by a loop that reads it in a branch."""
    weight = keras.Variable(np.full(2, 3.0, "float32"))

    def loop(count):
        def body(i, x):
            return cond(i < count, lambda: x * weight, lambda: x)

        return fori_loop(0, 9, body, ops.ones((2,)))

    compiled = compile_function(loop, [weight], jit_compile=False)
    if values is not None:
        values = [ops.convert_to_tensor(values)]
    return ops.convert_to_numpy(compiled(np.int32(6), values=values))


def error_of_fit():
    model = make_model()
    data = make_data(2)
    for method in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ksd.InputError, match="neither trains") as error:
            method(data)
    return str(error.value)


def results():
    """Return what both processes compute, as a dict of arrays."""
    return {
        **dict(results_of_classes()),
        **dict(results_of_texts()),
        "own": power(),
        "given": power(np.array([2.0, -1.0], "float32")),
    }


def main(file):
    train = run_command(
        "train", "--data", "vehicles", cwd=pathlib.Path(file).parent
    )
    np.savez(
        file,
        **results(),
        errors=[error_of_fit(), train.stderr.strip(), str(train.returncode)],
    )


@NEEDS_OPENVINO
@pytest.mark.any_backend
def test_draws_like_other_backends_and_does_not_train(tmp_path):
    file = tmp_path / "openvino.npz"
    done = subprocess.run(
        [sys.executable, "-m", "tests.backend.openvino_test", str(file)],
        cwd=ROOT,
        env=environment(KERAS_BACKEND="openvino"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(file) as found:
        for name, expected in results().items():
            atol, rtol = (1, 0) if expected.dtype == "uint8" else (0, 1e-4)
            np.testing.assert_allclose(
                *(found[name].astype("float64"), expected),
                *(rtol, atol),
                err_msg=name,
            )
        message, line, status = found["errors"]
    assert "one of jax, tensorflow, torch" in message
    assert (line, status) == (f"Error: {message}", "2")


@pytest.mark.parametrize("values", [[3.0, 3.0], [2.0, -1.0]])
def test_branches_and_loops_read_given_values(values):
    found = power(np.array(values, "float32"))
    np.testing.assert_allclose(found, np.power(values, 6), rtol=1e-6)


if __name__ == "__main__":
    main(sys.argv[1])
