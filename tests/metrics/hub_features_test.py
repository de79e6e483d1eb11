"""The networks of keras_hub, small and with random weights."""

import shutil

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError

torch = pytest.importorskip("torch")

WORDS = ["red</w>", "r", "e", "d</w>", "re", "b", "b</w>"]
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]


def random_weights(backbone):
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        if "float" in str(weight.dtype):
            values = ops.convert_to_numpy(weight)
            scale = 0.5 / max(values.shape, default=1) ** 0.5
            weight.assign(values + rng.normal(0.0, scale, values.shape))


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    backbone = keras_hub.models.DINOV2Backbone(
        patch_size=56,
        num_layers=1,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=24,
        image_shape=(392, 392, 3),
        position_embedding_shape=(392, 392, 3),
    )
    random_weights(backbone)
    folder = tmp_path_factory.mktemp("dino") / "preset"
    backbone.save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    vision = keras_hub.models.CLIPVisionEncoder(
        patch_size=8,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=24,
        image_shape=(24, 24, 3),
    )
    text = keras_hub.models.CLIPTextEncoder(
        vocabulary_size=len(WORDS + SPECIAL),
        embedding_dim=16,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=24,
        max_sequence_length=6,
    )
    backbone = keras_hub.models.CLIPBackbone(vision, text, projection_dim=12)
    random_weights(backbone)
    tokenizer = keras_hub.models.CLIPTokenizer(
        vocabulary={word: i for i, word in enumerate(WORDS + SPECIAL)},
        merges=["r e", "re d</w>"],
    )
    folder = tmp_path_factory.mktemp("clip") / "preset"
    backbone.save_to_preset(folder)
    tokenizer.save_to_preset(folder)
    return folder


def make_images(count=5, channels=3, sides=(20, 20)):
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, *sides, channels), "uint8")


def prepared(images, size, mean, deviation):
    """Resized by Pillow, and normalised."""
    resized = [
        np.stack(
            [
                Image.fromarray(image[..., c].astype("float32")).resize(
                    (size, size), Image.Resampling.BICUBIC
                )
                for c in range(3)
            ],
            axis=-1,
        )
        for image in images
    ]
    images = (np.clip(resized, 0, 255) / 255.0 - mean) / deviation
    return images.astype("float32")


def test_dino_features_are_keras_hubs(dino_folder):
    features = ksd.metrics.DINOFeatures(dino_folder, batch_size=2)
    images = make_images()
    ours = features(images)
    assert ours.shape == (5, features.size) == (5, 16)
    assert ours.dtype == "float32"
    network = keras_hub.models.DINOV2Backbone.from_preset(
        str(dino_folder), image_shape=(224, 224, 3)
    )
    # 7 x 7 positions become 4 x 4, by torch as in DINOv2's own code.
    positions = ops.convert_to_numpy(network.embeddings.position_embeddings)
    grid = torch.tensor(positions[:, 1:].reshape(1, 7, 7, 16))
    grid = torch.nn.functional.interpolate(
        grid.permute(0, 3, 1, 2), scale_factor=4.1 / 7, mode="bicubic"
    )
    grid = grid.permute(0, 2, 3, 1).reshape(1, 16, 16).numpy()
    network.embeddings.interpolated_position_embeddings.assign(
        np.concatenate([positions[:, :1], grid], 1)
    )
    inputs = prepared(images, 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    theirs = network.predict_on_batch({"images": inputs})[:, 0]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert ours.std(0).min() > 0.01


def test_clip_features_are_keras_hubs(clip_folder):
    features = ksd.metrics.CLIPFeatures(clip_folder, batch_size=2)
    images = make_images(3)
    prompts = ["red b", "bb", "Red  b red bb red"]
    ours = features(images), features.embed_text(prompts)
    assert ours[0].shape == ours[1].shape == (3, features.size) == (3, 12)
    network = keras_hub.models.CLIPBackbone.from_preset(str(clip_folder))
    inputs = prepared(
        images,
        24,
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.26130258, 0.27577711],
    )
    # 7 starts and 8 ends; of the last one there is too much.
    tokens = [[7, 0, 6, 8, 0, 0], [7, 5, 6, 8, 0, 0], [7, 0, 6, 0, 5, 8]]
    result = network.predict_on_batch(
        {"images": inputs, "token_ids": np.array(tokens, "int32")}
    )
    logits = result["vision_logits"]
    scale = np.exp(ops.convert_to_numpy(network.clip_head.logit_scale))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in ours)
    np.testing.assert_allclose(a @ b.T, logits / scale, atol=1e-5)
    assert np.ptp(logits / scale) > 0.1
    score = ksd.metrics.clip_score(*ours)
    expected = 100 * np.maximum(np.diag(logits) / scale, 0.0).mean()
    assert score == pytest.approx(expected, abs=1e-3)


def test_clip_score_of_known_features():
    images = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]], "float32")
    texts = np.array([[5.0, 0.0], [-1.0, 0.0], [0.0, 7.0]], "float32")
    # The cosines are 0.6, -1 and 1.
    score = ksd.metrics.clip_score(images, texts)
    assert score == pytest.approx(160.0 / 3.0)
    with pytest.raises(InputError, match="one prompt per image"):
        ksd.metrics.clip_score(images, texts[:2])


def test_features_do_not_depend_on_the_batch(clip_folder):
    features = ksd.metrics.CLIPFeatures(clip_folder, batch_size=4)
    images = make_images(6, channels=1, sides=(30, 20))
    together = features(images)
    np.testing.assert_array_equal(features(images[4:]), together[4:])
    grey = np.repeat(images[:, 3:-3], 3, -1)
    assert np.abs(features(grey) - together).max() > 1e-4
    np.testing.assert_allclose(
        features(np.repeat(images, 3, -1)), together, atol=1e-6
    )
    assert features(images[:0]).shape == (0, 12)
    assert features.embed_text([]).shape == (0, 12)


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="keras.distribution is JAX's"
)
def test_features_do_not_depend_on_the_number_of_devices(clip_folder):
    images, prompts = make_images(5), ["red", "bb", "b"]
    features = ksd.metrics.CLIPFeatures(clip_folder, batch_size=4)
    alone = features(images), features.embed_text(prompts)
    devices = keras.distribution.list_devices()[:3]
    with keras.distribution.DataParallel(devices=devices).scope():
        features = ksd.metrics.CLIPFeatures(clip_folder, batch_size=4)
        together = features(images), features.embed_text(prompts)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-6)
    np.testing.assert_allclose(together[1], alone[1], atol=1e-6)


def test_names_tell_the_weights(clip_folder, tmp_path):
    first = ksd.metrics.CLIPFeatures(clip_folder)
    again = ksd.metrics.CLIPFeatures(clip_folder, batch_size=2)
    assert first.name == again.name and first.name.startswith("clip-")
    network = keras_hub.models.CLIPBackbone.from_preset(str(clip_folder))
    kernel = network.text_projection.kernel
    kernel.assign(kernel * 1.001)
    network.save_to_preset(tmp_path / "other")
    keras_hub.models.CLIPTokenizer.from_preset(str(clip_folder)).save_to_preset(
        tmp_path / "other"
    )
    assert ksd.metrics.CLIPFeatures(tmp_path / "other").name != first.name


def test_wrong_inputs_are_told(clip_folder, tmp_path):
    with pytest.raises(InputError, match="dinov2_large"):
        ksd.metrics.DINOFeatures(tmp_path / "none")
    with pytest.raises(InputError, match="is of a CLIPBackbone"):
        ksd.metrics.DINOFeatures(clip_folder)
    with pytest.raises(InputError, match="batch_size"):
        ksd.metrics.CLIPFeatures(clip_folder, batch_size=0)
    features = ksd.metrics.CLIPFeatures(clip_folder)
    with pytest.raises(InputError, match="uint8"):
        features(np.zeros((1, 8, 8, 3), "float32"))
    with pytest.raises(InputError, match="list of strings"):
        features.embed_text("red")


@pytest.mark.any_backend
def test_presets_that_cannot_be_loaded_are_one_line(clip_folder, tmp_path):
    damaged = shutil.copytree(clip_folder, tmp_path / "damaged")
    weights = damaged / "model.weights.h5"
    content = weights.read_bytes()
    weights.write_bytes(content[:-200])
    with pytest.raises(InputError, match="model.weights.h5") as error:
        ksd.metrics.CLIPFeatures(damaged)
    assert "\n" not in str(error.value)
    weights.write_bytes(content)
    (damaged / "config.json").write_text("{")
    with pytest.raises(InputError, match="--clip or --dinov2"):
        ksd.metrics.CLIPFeatures(damaged)
    with pytest.raises(InputError, match="--clip or --dinov2"):
        ksd.metrics.DINOFeatures("kaggle://malformed")
