"""A stranger's preset reads only its own files, and downloads nothing."""

import json
import os
import shutil

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models import Preset
from keras_simple_diffusion.models.content import model_digest
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_model
from tests.helpers.models import randomize

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    model = make_model()
    randomize(model.backbone)
    model.save_to_preset(folder)
    return folder


@pytest.fixture
def foreign(saved, tmp_path):
    """A copy of a preset, to be changed."""
    return shutil.copytree(saved, tmp_path / "foreign")


def change(folder, name, edit):
    path = folder / name
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def refusal(folder):
    with pytest.raises(InputError) as error:
        Preset.open(folder).load()
    assert "\n" not in str(error.value)
    return str(error.value)


# === Files ===


@pytest.mark.parametrize(
    "name", ["config.json", "task.json", "recipe.json", "model.weights.h5"]
)
def test_links_that_lead_out_are_refused(foreign, tmp_path, name):
    outside = tmp_path / "outside"
    shutil.copytree(foreign, outside)
    (outside / "recipe.json").write_text("{}")
    (foreign / name).unlink(missing_ok=True)
    (foreign / name).symlink_to(outside / name)
    assert f"{name}' is no regular file of its folder" in refusal(foreign)


def test_links_inside_are_followed(foreign):
    (foreign / "model.weights.h5").rename(foreign / "other.h5")
    (foreign / "model.weights.h5").symlink_to("other.h5")
    Preset.open(foreign).load()


def test_a_snapshot_in_the_cache_of_hugging_face_is_read(saved, tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    shutil.copytree(saved, blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    Preset.open(snapshot).load()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_read(foreign):
    (foreign / "task.json").unlink()
    os.mkfifo(foreign / "task.json")
    assert "no regular file" in refusal(foreign)


def test_a_run_whose_preset_is_a_link_is_refused(saved, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "preset").symlink_to(saved)
    assert "is a link" in refusal(tmp_path / "run")


@pytest.fixture
def sharded(tmp_path):
    folder = tmp_path / "sharded"
    make_model().save_to_preset(folder, max_shard_size=1e-5)
    Preset.open(folder).load()
    return folder


@pytest.mark.parametrize(
    "name", ["../a.weights.h5", "/a.weights.h5", "a\\b.weights.h5", "a.h5", 1]
)
def test_an_index_names_files_of_its_folder(sharded, name):
    def edit(content):
        key = next(iter(content["weight_map"]))
        content["weight_map"][key] = [name]

    change(sharded, "model.weights.json", edit)
    assert "must name files of its own folder" in refusal(sharded)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', "[]", "{"])
def test_a_damaged_index_is_one_line(sharded, content):
    (sharded / "model.weights.json").write_text(content)
    assert "model.weights.json" in refusal(sharded)


def test_a_missing_shard_is_named(sharded):
    (sharded / "model_00001.weights.h5").unlink()
    assert "holds no model_00001.weights.h5" in refusal(sharded)


@pytest.mark.parametrize("kind", ["external", "soft", "storage", "virtual"])
def test_weights_outside_of_their_file_are_refused(foreign, tmp_path, kind):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["data"] = np.zeros(3, "float32")
    with h5py.File(foreign / "model.weights.h5", "a") as file:
        if kind == "external":
            file["more"] = h5py.ExternalLink(str(other), "data")
        elif kind == "soft":
            file["more"] = h5py.SoftLink("/elsewhere")
        elif kind == "storage":
            file.create_dataset(
                "more", (3,), "float32", external=[(str(other), 0, 12)]
            )
        else:
            layout = h5py.VirtualLayout((3,), "float32")
            layout[:] = h5py.VirtualSource(str(other), "data", (3,))
            file.create_virtual_dataset("more", layout)
    assert "refers to data outside of it at 'more'" in refusal(foreign)


# === Configurations ===


@pytest.mark.parametrize(
    "path", [("schedule",), ("extra",), ("loss", "config")]
)
@pytest.mark.parametrize(
    "module, name",
    [
        ("keras.layers", "Dense"),
        ("keras_hub.layers", "TokenAndPositionEmbedding"),
        ("os", "getcwd"),
        (None, "__lambda__"),
        (None, 3),
    ],
)
def test_only_parts_of_a_model_are_made(foreign, path, module, name):
    part = {"module": module, "class_name": name, "config": {}}

    def edit(content):
        place = content["config"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = {**part, "registered_name": None}

    change(foreign, "task.json", edit)
    assert "which is no registered part of a model" in refusal(foreign)


def test_parts_of_keras_hub_are_refused_by_their_registered_name(foreign):
    part = {
        "module": "keras_hub.tokenizers",
        "class_name": "BytePairTokenizer",
        "registered_name": "keras_hub>BytePairTokenizer",
        "config": {},
    }
    change(foreign, "task.json", lambda c: c["config"].update(schedule=part))
    assert "'keras_hub>BytePairTokenizer'" in refusal(foreign)


def test_policies_of_dtypes_are_parts(foreign):
    policy = keras.dtype_policies.serialize(
        keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    )
    assert isinstance(policy, dict)
    change(foreign, "config.json", lambda c: c["config"].update(dtype=policy))
    Preset.open(foreign).load()


@pytest.mark.parametrize(
    "value",
    [[], {}, "8", None, -1, float("nan"), float("inf"), 10**30, {"a": 1}],
)
@pytest.mark.parametrize(
    "name, key",
    [
        ("config.json", "channels"),
        ("config.json", "image_shape"),
        ("config.json", "num_classes"),
        ("task.json", "num_steps"),
        ("task.json", "schedule"),
        ("task.json", "loss"),
        ("task.json", "sampler"),
        ("task.json", "class_names"),
    ],
)
def test_odd_values_are_one_line_or_right(foreign, name, key, value):
    change(foreign, name, lambda c: c["config"].update({key: value}))
    try:
        Preset.open(foreign).load()
    except InputError as error:
        assert "\n" not in str(error)


def test_deep_nesting_is_one_line(foreign):
    value = []
    for _ in range(80):
        value = [value]
    change(foreign, "task.json", lambda c: c["config"].update(extra=value))
    assert "nested in more than 64 levels" in refusal(foreign)
    (foreign / "task.json").write_text("[" * 100_000)
    assert "cannot be read as JSON" in refusal(foreign)


def test_text_of_other_tools_is_read(foreign):
    text = (foreign / "config.json").read_text()
    (foreign / "config.json").write_bytes(text.encode("utf-8-sig"))
    (foreign / "task.json").write_text(
        (foreign / "task.json").read_text(), encoding="utf-16"
    )
    Preset.open(foreign).load()


# === Text encoders ===


@pytest.fixture
def with_encoder(tmp_path, monkeypatch):
    """Make a preset that names a text encoder; hubs have nothing cached."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))

    def make(folder, **changes):
        words = ksd.text.learn_vocabulary(["a"])
        encoder = ksd.text.TextTransformer(words, 8, 1, 2, 4)
        backbone = ksd.models.UViTBackbone(
            (4, 4, 1), (16,), (1,), num_heads=2, context_dim=8
        )
        ksd.models.TextToImage(backbone, encoder).save_to_preset(folder)
        named = {
            "module": "keras_simple_diffusion.text.pretrained_text_encoder",
            "class_name": "PretrainedTextEncoder",
            "registered_name": "keras_simple_diffusion>PretrainedTextEncoder",
            "config": {"embedding_dim": 8, "sequence_length": 4, **changes},
        }
        change(
            folder,
            "task.json",
            lambda c: c["config"].update(text_encoder=named),
        )
        return folder

    return make


@pytest.mark.parametrize(
    "named, command",
    [
        ("t5_1.1_small", "kagglehub.model_download('keras/t5/keras/t5_1.1_"),
        ("kaggle://a/b/keras/c/1", "kagglehub.model_download('a/b/keras/c/1')"),
        ("hf://no-one/nothing", "hf download no-one/nothing"),
        ("hf://a; b", "If you trust it, pass"),
        ("gs://bucket/folder", "If you trust it, pass"),
    ],
)
def test_an_encoder_is_not_downloaded_unasked(
    with_encoder, tmp_path, named, command
):
    preset = Preset.open(with_encoder(tmp_path / "text", preset=named))
    model = preset.load(load_weights=False)
    with pytest.raises(InputError, match="not downloaded unasked") as error:
        model.generate(["a"], num_steps=1)
    assert command in str(error.value)
    with pytest.raises(InputError, match="not downloaded unasked"):
        preset.part("text_encoder").load()


def test_an_encoder_that_was_downloaded_is_used(
    with_encoder, tmp_path, monkeypatch
):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    folder = tmp_path / "kaggle" / "models" / "a" / "b" / "keras" / "c" / "1"
    folder.mkdir(parents=True)
    (folder / "model.weights.h5").write_bytes(b"")
    named = "kaggle://a/b/keras/c/1"
    preset = Preset.open(with_encoder(tmp_path / "text", preset=named))
    loaded = []
    monkeypatch.setattr(
        "keras_simple_diffusion.text.pretrained_text_encoder._load",
        lambda name, dtype: loaded.append(name) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        preset.part("text_encoder").load()
    assert loaded == [named]


def test_encoders_of_built_in_presets_are_told(monkeypatch):
    encoder = Preset.open("uvit_text_256").part("text_encoder")
    assert encoder.may_download
    # And those that the user names.
    given = ksd.text.PretrainedTextEncoder("t5_1.1_xxl", embedding_dim=4096)
    assert given.may_download


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"preset": ".", "revision": "any"}, "neither a preset"),
        ({"preset": None}, "must be the name, folder or handle"),
        ({"preset": ["a"]}, "must be the name, folder or handle"),
        ({"preset": "t5_1.1_small", "embedding_dim": None}, "`embedding_dim`"),
        ({"preset": "here"}, "`revision`"),
        ({"preset": "here", "revision": "sha256:0"}, "has changed"),
    ],
)
def test_other_folders_are_not_read(
    with_encoder, tmp_path, monkeypatch, changes, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "config.json").write_text("{}")
    folder = with_encoder(tmp_path / "text", **changes)
    assert message in refusal(folder)


# === Weights that are not finite ===


def test_weights_that_are_not_finite_are_said(tmp_path):
    model = make_model()
    kernel = model.backbone.trainable_weights[3]
    values = ops.convert_to_numpy(kernel).copy()
    values.flat[0] = np.nan
    kernel.assign(values)
    model.save_to_preset(tmp_path)
    message = refusal(tmp_path)
    assert "not finite (NaN or infinity in 1 arrays" in message
    assert kernel.path in message
    Preset.open(tmp_path).load(load_weights=False)
    with pytest.raises(InputError, match="not finite"):
        model_digest(model)


# === The digest of a model ===


def test_a_digest_is_that_of_the_content(saved, foreign):
    expected = model_digest(Preset.open(saved).load())
    assert model_digest(Preset.open(foreign).load()) == expected
    # Another process gives other names, an override another configuration.
    assert model_digest(Preset.open(saved).load(num_steps=7)) != expected
    model = Preset.open(saved).load()
    weight = model.backbone.trainable_weights[0]
    weight.assign(weight + 1e-3)
    assert model_digest(model) != expected
