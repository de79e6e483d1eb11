"""Folders of images with captions, from the command line to the sheet."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion import cli
from keras_simple_diffusion.data import embedding_cache
from keras_simple_diffusion.models.text_to_image import make_embedder
from keras_simple_diffusion.text import PretrainedTextEncoder
from keras_simple_diffusion.training import embed_data
from keras_simple_diffusion.training import resume_run
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.utils.errors import InputError

# What does not depend on the backend runs where there is nothing to compile.


def write_preset(folder, **network):
    """A preset like the built-in ones, whose vocabulary is not known yet."""
    encoder = ksd.text.TextTransformer(
        None, embedding_dim=8, num_layers=1, num_heads=2, sequence_length=8
    )
    network = {"image_shape": (8, 8, 3), "portrait_flag": False, **network}
    backbone = ksd.models.UViTBackbone(
        channels=(8, 16),
        blocks=(1, 1),
        num_heads=2,
        embedding_dim=16,
        context_dim=8,
        **network,
    )
    model = ksd.models.TextToImage(backbone, encoder, num_steps=2)
    model.save_to_preset(folder)
    recipe = {"batch_size": 4, "warmup_steps": 2, "steps": 4}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_preset(tmp_path_factory.mktemp("preset"))


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """Eight images with two captions each, and two held out."""
    folder = tmp_path_factory.mktemp("captioned")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        rows = []
        for index in range(count):
            path = folder / split / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = rng.integers(0, 256, (20, 8 + 4 * index, 3), "uint8")
            Image.fromarray(pixels).save(path)
            texts = [f"a red image {index}", "something else"]
            rows.append({"file_name": path.name, "text": texts})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / split / "metadata.jsonl").write_text(lines)
    return folder


def arrays_of(run):
    arrays, _ = Checkpoints(run / "checkpoints").latest()
    with arrays:
        return {name: arrays[name] for name in arrays.keys()}


@pytest.mark.any_backend
def test_captioned_folder_resumes_as_if_nothing_had_happened(
    preset, captioned, tmp_path
):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train_run(captioned, straight, preset)
    train_run(captioned, resumed, preset, steps=2)
    resume_run(resumed, steps=4)
    ours, theirs = arrays_of(straight), arrays_of(resumed)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_captioned_folder_trains_and_draws_prompts(
    preset, captioned, tmp_path, monkeypatch, capsys
):
    straight = tmp_path / "straight"
    model = train_run(captioned, straight, preset)
    assert "image" in model.text_encoder.vocabulary
    sheet = tmp_path / "sheet.png"
    arguments = ["generate", "--model", str(straight), "--output", str(sheet)]
    prompts = ["--prompt", "a red image", "--prompt", "an unknown word"]
    arguments = ["keras-simple-diffusion", *arguments, *prompts]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code in (0, None)
    assert "2 images are in" in capsys.readouterr().out
    with Image.open(sheet) as image:
        assert image.width > 128


@pytest.mark.any_backend
def test_a_run_starts_from_network_and_words_of_another(
    preset, captioned, tmp_path, capsys
):
    first, second = tmp_path / "first", tmp_path / "second"
    trained = train_run(captioned, first, preset)
    text = json.dumps({"file_name": "0.png", "text": "a green image"})
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    shutil.copy(captioned / "train" / "0.png", folder)
    (folder / "metadata.jsonl").write_text(text)
    capsys.readouterr()
    model = train_run(
        folder.parent,
        second,
        preset,
        initialize_from=first,
        learning_rate=1e-9,
    )
    assert "random at first: ##r, green" in capsys.readouterr().out
    with trained.averaged_weights():
        expected = trained.generate(["an image"], seed=0)
    found = model.generate(["an image"], seed=0)
    difference = np.abs(expected.astype(int) - found.astype(int))
    assert difference.max() <= 1


@pytest.mark.any_backend
def test_batches_hold_captions_that_are_a_function_of_the_step(captioned):
    source = ksd.data.open_data(captioned, 8)
    keys = ("images", "captions")

    def captions(count, **options):
        batches = ksd.data.training_batches(source, 4, keys=keys, **options)
        batches = iter(batches)
        return [next(batches)["captions"].tolist() for _ in range(count)]

    straight = captions(6)
    assert captions(3, start_step=3) == straight[3:]
    assert captions(2, num_workers=1) == straight[:2]
    # Each of the two is drawn now and then.
    drawn = {text for batch in straight for text in batch}
    assert "something else" in drawn and len(drawn) > 4
    assert len(source.captions()) == 16


@pytest.mark.any_backend
def test_portrait_images_are_turned_and_told(captioned, tmp_path):
    # The shape of 384 x 640, 32 times smaller.
    preset = write_preset(
        tmp_path / "preset", image_shape=(12, 20, 3), portrait_flag=True
    )
    model = train_run(captioned, tmp_path / "run", preset, steps=2)
    images = model.generate(["a red image"], portrait=True, seed=0)
    assert images.shape == (1, 20, 12, 3)
    assert (tmp_path / "run" / "samples.png").exists()


@pytest.mark.any_backend
def test_real_captions_train(shared_data, preset, tmp_path):
    data = shared_data / "coco_mini_captions_256.zip"
    model = train_run(data, tmp_path / "run", preset, steps=2)
    assert len(model.text_encoder.vocabulary) > 500
    history = (tmp_path / "run" / "history.csv").read_text()
    assert "val_loss" in history


@pytest.mark.any_backend
def test_data_without_captions(preset, tmp_path):
    with pytest.raises(InputError, match="metadata.jsonl"):
        train_run("digits", tmp_path / "run", preset)
    with pytest.raises(InputError, match="of a TextToImage, not of a Diff"):
        ksd.models.DiffusionModel.from_preset(preset, load_weights=True)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options, message",
    [
        (["--labels", "1"], "pass them by --prompt"),
        ([], "pass --prompt"),
        (["--prompt", "a", "--portrait"], "portrait_flag"),
    ],
)
def test_command_line_errors(
    preset, captioned, tmp_path, monkeypatch, capsys, options, message
):
    train_run(captioned, tmp_path / "run", preset, steps=1)
    arguments = ["x", "generate", "--model", str(tmp_path / "run"), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


# === Embeddings ===


@pytest.fixture
def frozen_preset(t5, tmp_path):
    """A preset with a frozen encoder, which is named in it."""
    encoder = ksd.text.PretrainedTextEncoder(t5, 8)
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (16,), (1,), num_heads=2, embedding_dim=16, context_dim=8
    )
    folder = tmp_path / "frozen"
    ksd.models.TextToImage(backbone, encoder, num_steps=2).save_to_preset(
        folder
    )
    recipe = {"batch_size": 4, "warmup_steps": 2, "steps": 3}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def losses(run):
    lines = (run / "history.csv").read_text().splitlines()
    return [float(line.split(",")[2]) for line in lines[1:]]


@pytest.mark.any_backend
def test_training_from_embeddings_and_on_the_fly_is_equal(
    frozen_preset, captioned, tmp_path, monkeypatch
):
    monkeypatch.setattr(embedding_cache, "_SHARD_SIZE", 4)
    cache = embed_data(captioned, frozen_preset, tmp_path / "cache", 4)
    assert cache.missing() == [] and len(cache.texts) == 10
    # Killed between two files, it goes on with those that are missing.
    lost = sorted((tmp_path / "cache").glob("*[0-9].npy"))[1]
    content = lost.read_bytes()
    lost.unlink()
    embed_data(captioned, frozen_preset, tmp_path / "cache", 4)
    assert lost.read_bytes() == content
    # Damaged by a power loss, a file is not believed, and computed again.
    for path in sorted((tmp_path / "cache").glob("*.npy"))[:2]:
        content = path.read_bytes()
        for damaged in (content[:-40], content[:-1] + b"?", b""):
            path.write_bytes(damaged)
            stored = ksd.data.EmbeddingCache(tmp_path / "cache")
            with pytest.raises(InputError, match="1 of its files are missing"):
                stored.read("", 8)
            embed_data(captioned, frozen_preset, tmp_path / "cache", 4)
            assert path.read_bytes() == content

    train_run(captioned, tmp_path / "live", frozen_preset)
    loaded = []
    load = PretrainedTextEncoder.load
    monkeypatch.setattr(
        PretrainedTextEncoder,
        "load",
        lambda self: (
            loaded.append(len(losses(tmp_path / "stored"))) or load(self)
        ),
    )
    train_run(
        captioned,
        tmp_path / "stored",
        frozen_preset,
        embeddings=tmp_path / "cache",
    )
    # Not for training: only to draw the samples at the end.
    assert set(loaded) == {3}
    np.testing.assert_allclose(
        losses(tmp_path / "stored"), losses(tmp_path / "live"), rtol=1e-5
    )


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"encoder": [], "texts": []}',
        '{"encoder": {"sequence_length": "8"}, "texts": []}',
        '{"encoder": {"sequence_length": 8}, "texts": ["", 1]}',
    ],
)
def test_a_damaged_configuration_of_embeddings_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="config.json'"):
        ksd.data.EmbeddingCache(tmp_path)


@pytest.mark.any_backend
def test_embeddings_killed_at_the_start_are_begun_again(
    captioned, frozen_preset, preset, tmp_path
):
    folder = tmp_path / "cache"
    (folder / ".draft-config.json-abc").mkdir(parents=True)
    (folder / ".lock").write_text("")
    embed_data(captioned, frozen_preset, folder)
    assert not list(folder.glob(".draft-*"))
    # Folders of anything else are left as they are.
    with pytest.raises(InputError, match="holds something already"):
        embed_data(captioned, frozen_preset, captioned)
    assert not (captioned / ".lock").exists()


@pytest.mark.any_backend
def test_stored_embeddings_are_those_of_the_encoder(t5, captioned, tmp_path):
    encoder = ksd.text.PretrainedTextEncoder(t5, 8)
    texts = ["a ship", "a red apple on a table", ""]
    embed = make_embedder(encoder)
    cache = ksd.data.EmbeddingCache.create(
        tmp_path / "cache", encoder.identity(), texts
    )
    with pytest.raises(InputError, match="incomplete: 1 of"):
        cache.read("a ship", 8)
    cache.write(0, *embed(cache.texts))
    for text, context, mask in zip(texts, *embed(texts), strict=True):
        stored = cache.read(text, 8)
        np.testing.assert_array_equal(stored[0], context)
        np.testing.assert_array_equal(stored[1], mask)
    with pytest.raises(InputError, match="no embeddings of the caption 'no'"):
        cache.read("no", 8)
    with pytest.raises(InputError, match="of other texts"):
        ksd.data.EmbeddingCache.create(tmp_path / "cache", {}, texts)


@pytest.mark.any_backend
def test_embeddings_that_do_not_fit(
    preset, frozen_preset, t5, captioned, tmp_path
):
    with pytest.raises(InputError, match="trained together"):
        embed_data(captioned, preset, tmp_path / "cache")
    with pytest.raises(InputError, match="holds no embeddings"):
        train_run(
            captioned, tmp_path / "run", frozen_preset, embeddings=tmp_path
        )
    encoder = ksd.models.Preset.open(frozen_preset).part("text_encoder")
    cache = ksd.data.EmbeddingCache.create(
        tmp_path / "cache",
        {**encoder.identity(), "revision": "other"},
        ksd.data.open_data(captioned, 8).captions(),
    )
    cache.write(0, *make_embedder(encoder)(cache.texts))
    for data, message in (
        (captioned, "of another encoder"),
        ("vehicles", "for images with captions"),
    ):
        with pytest.raises(InputError, match=message):
            train_run(
                data,
                tmp_path / "run",
                frozen_preset,
                embeddings=tmp_path / "cache",
            )
