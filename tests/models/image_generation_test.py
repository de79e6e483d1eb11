"""Guidance options and editing, on a tiny network with random weights."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError

samplers = ksd.samplers
STEPS = 6


def make_model(num_classes=3, seed=0, **kwargs):
    backbone = ksd.models.UViTBackbone(
        (4, 8, 1),
        (16,),
        (1,),
        num_heads=2,
        embedding_dim=16,
        num_classes=num_classes,
    )
    rng = np.random.RandomState(seed)
    for weight in backbone.weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        value = 0.8 * rng.normal(size=weight.shape) / np.sqrt(fan_in)
        if weight.name in ("scale", "gamma"):
            value = 1 + 0.1 * value
        weight.assign(value.astype("float32"))
    return ksd.models.DiffusionModel(backbone, num_steps=STEPS, **kwargs)


@pytest.fixture(scope="module")
def model():
    return make_model()


def make_images(count=2, seed=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 4, 8, 1)).astype("uint8")


DRAW = {"labels": [0, 2], "seed": 1}


def mean_difference(a, b):
    return np.abs(a.astype("float64") - b.astype("float64")).mean()


# === Guidance ===


def test_guidance_interval_turns_guidance_on_and_off(model):
    plain = model.generate(**DRAW, guidance_scale=1.0)
    guided = model.generate(**DRAW, guidance_scale=4.0)
    assert mean_difference(plain, guided) > 1

    def within(*interval):
        return model.generate(
            **DRAW, guidance_scale=4.0, guidance_interval=interval
        )

    np.testing.assert_allclose(within(-99, 99), guided, atol=1)
    np.testing.assert_allclose(within(98, 99), plain, atol=1)
    part = within(-3.0, 1.0)
    assert mean_difference(part, plain) > 0.5
    assert mean_difference(part, guided) > 0.5


def test_guidance_costs_nothing_outside_of_its_interval(monkeypatch):
    if keras.backend.backend() != "torch":
        pytest.skip("only the eager backend shows what is evaluated")
    model = make_model()
    sizes = []
    call = type(model.backbone).__call__
    monkeypatch.setattr(
        type(model.backbone),
        "__call__",
        lambda self, x, **k: (
            sizes.append(len(x["labels"])) or call(self, x, **k)
        ),
    )
    grid = ops.convert_to_numpy(samplers.log_snr_grid(model.schedule, STEPS))
    interval = (float(grid[2]) - 0.1, float(grid[3]) + 0.1)
    model.generate(**DRAW, guidance_scale=2.0, guidance_interval=interval)
    assert sizes == [2, 2, 4, 4, 2, 2]


def test_autoguidance():
    strong, weak = make_model(), make_model(seed=1)
    plain = strong.generate(**DRAW, guidance_scale=1.0)
    guided = strong.generate(**DRAW, guidance_scale=2.0, guidance_model=weak)
    assert mean_difference(plain, guided) > 1
    # A model guided by itself is itself.
    same = strong.generate(**DRAW, guidance_scale=3.0, guidance_model=strong)
    np.testing.assert_allclose(same, plain, atol=1)
    # Weights of the weak model are not frozen into the program.
    for weight in weak.backbone.weights:
        weight.assign(0.5 * weight)
    other = strong.generate(**DRAW, guidance_scale=2.0, guidance_model=weak)
    assert mean_difference(other, guided) > 0.5


def test_autoguidance_of_an_unconditional_model():
    strong, weak = make_model(None), make_model(None, seed=1)
    drawn = strong.generate(2, seed=1, guidance_scale=2.0, guidance_model=weak)
    assert mean_difference(drawn, strong.generate(2, seed=1)) > 1


def test_guidance_rescale_and_clipping_change_the_images(model):
    base = {**DRAW, "guidance_scale": 8.0}
    drawn = model.generate(**base)
    rescaled = model.generate(**base, guidance_rescale=0.7)
    assert mean_difference(drawn, rescaled) > 1
    zero = model.generate(**base, guidance_rescale=0.0)
    np.testing.assert_allclose(zero, drawn, atol=1)
    dynamic = model.generate(**base, clipping="dynamic")
    assert mean_difference(drawn, dynamic) > 1
    # Static clipping saturates more of the image than dynamic.
    saturated = [((x == 0) | (x == 255)).mean() for x in (drawn, dynamic)]
    assert saturated[0] > saturated[1]


@pytest.mark.parametrize(
    "sampler",
    [
        samplers.DDIMSampler(),
        samplers.HeunSampler(),
        samplers.DPMSolverSampler(),
    ],
    ids=str,
)
def test_sampler_and_spacing_are_arguments(model, sampler):
    many = {"num_steps": 40, "clipping": None, "guidance_scale": 1.0}
    exact = model.generate(**DRAW, **many, sampler=samplers.HeunSampler())
    for spacing in ("time", "power"):
        drawn = model.generate(**DRAW, **many, sampler=sampler, spacing=spacing)
        # All of them solve the same flow.
        assert mean_difference(drawn, exact) < 5
    assert model.sampler == samplers.DDPMSampler()


def test_steps_are_returned(model):
    drawn, noisy, clean = model.generate(
        labels=[0, 1, 2], seed=1, batch_size=2, return_steps=True
    )
    assert noisy.shape == clean.shape == (3, STEPS, 4, 8, 1)
    np.testing.assert_array_equal(clean[:, -1], drawn)
    np.testing.assert_array_equal(
        drawn, model.generate(labels=[0, 1, 2], seed=1, batch_size=2)
    )


def test_a_part_of_a_larger_set(model):
    whole = model.generate(labels=[0, 1, 2, 0, 1], seed=4)
    part = model.generate(labels=[2, 1], indices=[2, 4], seed=4)
    np.testing.assert_allclose(part, whole[[2, 4]], atol=1)


# === Editing ===


def test_edit_goes_from_the_image_to_another(model):
    images = make_images()
    few = {"num_steps": 20, "strength": 0.001}
    assert mean_difference(model.edit(images, **DRAW, **few), images) > 0
    same, noisy, _ = model.edit(images, **DRAW, strength=0.0, return_steps=True)
    np.testing.assert_array_equal(same, images)
    assert noisy.shape == (2, 0, 4, 8, 1)
    differences = [
        mean_difference(
            model.edit(images, **DRAW, strength=strength, num_steps=20), images
        )
        for strength in (0.1, 0.3, 1.0)
    ]
    assert 0 < differences[0] < differences[1] < differences[2]
    # Nothing of the image is left: as drawn from noise.
    drawn = model.generate(**DRAW, num_steps=20)
    forgotten = model.edit(images, **DRAW, strength=1.0, num_steps=20)
    np.testing.assert_allclose(forgotten, drawn, atol=3)


@pytest.mark.parametrize(
    "sampler", [samplers.DDPMSampler(), samplers.DPMSolverSampler()], ids=str
)
def test_inpainting_keeps_known_pixels_exactly(model, sampler):
    images = make_images()
    mask = np.zeros((4, 8), bool)
    mask[1:3, 2:7] = True
    drawn = model.inpaint(images, mask, **DRAW, sampler=sampler)
    np.testing.assert_array_equal(drawn[:, ~mask], images[:, ~mask])
    assert (drawn[:, mask] != images[:, mask]).mean() > 0.8
    # A mask each, and float images.
    masks = np.stack([mask, ~mask])
    scaled = images / np.float32(127.5) - np.float32(1)
    drawn = model.inpaint(scaled, masks, **DRAW, sampler=sampler)
    np.testing.assert_array_equal(drawn[~masks], images[~masks])


def test_upscaling_keeps_the_averages(model):
    small = make_images()[:, :2, :4] // 2 + 64
    drawn = model.upscale(small, **DRAW, clipping=None)
    averages = drawn.astype("float64").reshape(2, 2, 2, 4, 2, 1).mean((2, 4))
    inside = (drawn > 0) & (drawn < 255)
    inside = inside.reshape(2, 2, 2, 4, 2, 1).all((2, 4))
    assert inside.any()
    # Four pixels are rounded to whole grey levels.
    np.testing.assert_allclose(averages[inside], small[inside], atol=0.51)


def test_inversion_and_generation_return_the_image(model):
    images = make_images() // 2 + 64
    noise = model.invert(images, [0, 2], num_steps=128)
    assert noise.shape == (2, 4, 8, 1) and noise.dtype == "float32"
    arguments = {
        "labels": [0, 2],
        "num_steps": 128,
        "sampler": samplers.DDIMSampler(),
        "guidance_scale": 1.0,
        "clipping": None,
    }
    again = model.generate(**arguments, noise=noise)
    assert mean_difference(again, images) < 2
    assert mean_difference(model.generate(**arguments, seed=0), images) > 10


def test_interpolation_between_seeds(model):
    way = model.interpolate(3, 8, num_images=5, labels=[1])
    assert way.shape == (5, 4, 8, 1)
    for seed, end in ((3, way[0]), (8, way[-1])):
        drawn = model.generate(
            labels=[1], seed=seed, sampler=samplers.DDIMSampler()
        )
        np.testing.assert_allclose(end, drawn[0], atol=1)
    steps = [mean_difference(a, b) for a, b in zip(way, way[1:], strict=False)]
    assert max(steps) < mean_difference(way[0], way[-1])


def test_interpolation_between_images():
    first, second = make_images() // 2 + 64
    guided = make_model(guidance_scale=3.0)
    way = guided.interpolate(
        first, second, num_images=3, labels=[0, 1, 2], num_steps=96
    )
    assert mean_difference(way[0], first) < 4
    assert mean_difference(way[-1], second) < 4


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "method, arguments, message",
    [
        ("interpolate", {"first": "a.png", "second": 2}, "a seed or an image"),
        ("interpolate", {"first": np.zeros((8, 8, 1)), "second": 2}, "a seed"),
        ("generate", {"guidance_interval": (2.0, 1.0)}, "increasing log-SNRs"),
        ("generate", {"guidance_rescale": 1.5}, "guidance_rescale=1.5"),
        ("generate", {"clipping": "hard"}, "clipping='hard'"),
        ("generate", {"spacing": "even"}, "spacing='even'"),
        ("generate", {"labels": 3}, "labels=3"),
        ("generate", {"labels": "cat"}, "such as [3, 3]"),
        ("generate", {"seed": 1.5}, "seed=1.5"),
        ("generate", {"num_steps": "8"}, "num_steps='8'"),
        ("generate", {"sampler": "fastest"}, "'fastest'"),
        ("generate", {"guidance_scale": np.nan}, "guidance_scale=nan"),
        ("generate", {"guidance_scale": 1e39}, "guidance_scale=1e+39"),
        (
            "generate",
            {"guidance_model": "weak", "guidance_scale": 2.0},
            "guidance_model='weak'",
        ),
        ("generate", {"guidance_interval": 3.0}, "guidance_interval=3.0"),
        ("generate", {"noise": [[1.0]]}, "finite numbers of shape"),
        ("edit", {"images": np.full((2, 4, 8, 1), 700, "int16")}, "int16"),
        ("edit", {"images": np.full((2, 4, 8, 1), np.nan)}, "[nan, nan]"),
        ("generate", {"indices": [1]}, "`indices` must be 2 numbers"),
        ("edit", {"strength": 1.2}, "strength=1.2"),
        (
            "edit",
            {"images": np.zeros((2, 8, 8, 1), "uint8")},
            "images of 4 x 8",
        ),
        ("edit", {"images": np.full((2, 4, 8, 1), 3.0)}, "float in [-1, 1]"),
        ("edit", {"num_steps": -1}, "num_steps=-1"),
        ("inpaint", {"mask": np.zeros((8, 8))}, "Received: (8, 8)"),
        (
            "upscale",
            {"images": np.zeros((2, 3, 4, 1), "uint8")},
            "a whole number of times smaller",
        ),
    ],
)
def test_bad_arguments(model, method, arguments, message):
    base = dict(DRAW)
    if method == "interpolate":
        base["num_images"] = 2
    elif method != "generate":
        base["images"] = make_images()
    if method == "inpaint":
        base["mask"] = np.zeros((4, 8), bool)
    with pytest.raises(ValueError) as error:
        getattr(model, method)(**{**base, **arguments})
    assert message in str(error.value)


@pytest.mark.any_backend
def test_guidance_model_of_another_shape(model):
    other = make_model(num_classes=2)
    with pytest.raises(ValueError, match="a model with num_classes=2"):
        model.generate(**DRAW, guidance_scale=2.0, guidance_model=other)
    # It would need a scale as an input.
    config = {**model.backbone.get_config(), "guidance_range": (1.0, 2.0)}
    other = ksd.models.DiffusionModel(ksd.models.UViTBackbone(**config))
    with pytest.raises(ValueError, match="guidance_range=\\(1.0, 2.0\\)"):
        model.generate(**DRAW, guidance_scale=2.0, guidance_model=other)


@pytest.mark.any_backend
def test_a_guidance_model_without_guidance(model):
    with pytest.raises(InputError, match="other than 1"):
        model.generate(**DRAW, guidance_model=model, guidance_scale=1.0)


@pytest.mark.parametrize("clipping", ["static", "dynamic", None])
def test_images_that_are_not_finite_are_told(clipping):
    model = make_model()
    weight = model.backbone.trainable_weights[0]
    model.generate(2, [0, 1], num_steps=2, clipping=clipping)
    weight.assign(weight * float("nan"))
    with pytest.warns(UserWarning, match="2 of 2 images are not finite"):
        images = model.generate(2, [0, 1], num_steps=2, clipping=clipping)
    assert images.dtype == "uint8"
