"""The guidance model that a finetuned model gets from its start."""

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training.setup import initialize
from tests.helpers.models import make_backbone
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import make_transformer
from tests.helpers.models import randomize

pytestmark = pytest.mark.any_backend
NAMES = ["a", "b", "c"]


def make(num_classes, seed=0, backbone=None, **options):
    model = make_model(num_classes, backbone, num_steps=3, **options)
    randomize(model.backbone, seed)
    return model


def make_pixel_transformer(num_classes, seed, **options):
    network = make_transformer(num_classes, **options)
    return make(num_classes, seed, network)


def start_from(source, model, folder):
    source.save_to_preset(folder)
    return initialize(model, folder)


def draw(model):
    """Draw without a class and without guidance."""
    classes = model.backbone.num_classes
    labels = {} if classes is None else {"labels": [classes] * 4}
    images = model.generate(4, **labels, guidance_scale=1.0, seed=0)
    return images.astype(int)


def assert_draws_like(model, other):
    expected = draw(other)
    assert expected.std() > 5
    assert np.abs(draw(model) - expected).max() <= 1


@pytest.mark.parametrize(
    "source, model",
    [
        (lambda: make(None, 1), lambda: make(3)),
        (lambda: make(5, 1), lambda: make(3)),
        (lambda: make(3, 1), lambda: make(3)),
        (lambda: make(3, 1), lambda: make(None)),
        (lambda: make(5, 1), lambda: make(3, class_names=NAMES)),
        (
            lambda: make(3, 1, class_names=NAMES),
            lambda: make(2, class_names=["b", "d"]),
        ),
        (
            lambda: make_pixel_transformer(5, 1),
            lambda: make_pixel_transformer(2, 0),
        ),
        # The scale of both was chosen for the guidance of classes.
        (
            lambda: make(5, 1, guidance_scale=3.0),
            lambda: make(3, guidance_scale=3.0),
        ),
    ],
    ids=["new", "fewer", "same", "none", "unnamed", "named", "tokens", "scale"],
)
def test_it_draws_as_the_start_without_a_class(source, model, tmp_path):
    source, model = source(), model()
    told = start_from(source, model, tmp_path / "start")
    assert "guided away from that start by 2" in told
    assert_draws_like(model.guidance_model, source)
    assert model.guidance_scale == 2.0


@pytest.mark.parametrize(
    "source, model",
    [
        # Class tokens that only one of them has.
        (
            lambda: make_pixel_transformer(None, 1),
            lambda: make_pixel_transformer(2, 0),
        ),
        (
            lambda: make_pixel_transformer(2, 1),
            lambda: make_pixel_transformer(None, 0),
        ),
        # Nothing was ever drawn without a class.
        (lambda: make(3, 1, label_dropout=0.0), lambda: make(3)),
        (lambda: make(3, 1, prediction_type="x"), lambda: make(3)),
        (lambda: make_of_texts(), lambda: make(None)),
    ],
    ids=["new tokens", "lost tokens", "no dropout", "prediction", "text"],
)
def test_other_starts_guide_nothing(source, model, tmp_path):
    model = model()
    told = start_from(source(), model, tmp_path / "start")
    assert "guided" not in told
    assert model.guidance_model is None
    assert model.guidance_scale == 1.0


def make_of_texts():
    encoder = make_text_encoder(NAMES)
    network = make_backbone(None, context_dim=8)
    return ksd.models.TextToImage(randomize(network, 1), encoder)


def test_a_finetuned_start_hands_on_its_guide(tmp_path):
    first = make(None, 1)
    second = make(None, 0)
    start_from(first, second, tmp_path / "first")
    randomize(second.backbone, 2)  # It has been trained.
    third = make(3)
    told = start_from(second, third, tmp_path / "second")
    assert "guided away from the start of" in told
    assert_draws_like(third.guidance_model, first)
    assert_draws_like(third, second)
    # Even by a model that never dropped its classes itself, at its scale.
    second = make(3, 0, label_dropout=0.0)
    start_from(first, second, tmp_path / "first")
    second.guidance_scale = 1.5
    third = make(None)
    start_from(second, third, tmp_path / "second")
    assert_draws_like(third.guidance_model, first)
    assert third.guidance_scale == 1.5


@pytest.mark.parametrize(
    "options", [{"prediction_type": "x"}, {"backbone": {"channels": (32,)}}]
)
def test_guides_that_cannot_be_taken_over(options, tmp_path):
    source, model = make(None, 1), make(3)
    source.guidance_model = make(None, 2, **options)
    told = start_from(source, model, tmp_path / "start")
    assert "guided away from that start" in told
    assert_draws_like(model.guidance_model, source)
    assert_draws_like(model, source)
