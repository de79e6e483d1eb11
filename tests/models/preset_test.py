"""A preset is read once, from wherever it is, and says what a run does."""

import collections
import json
import shutil
import sys

import huggingface_hub
import keras
import keras_hub
import numpy as np
import pytest
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import validate_repo_id
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models import Preset
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import preset_folder

OPENED = collections.Counter()
_IS_COUNTING = []


def _count(event, arguments):
    if _IS_COUNTING and event == "open" and str(arguments[0]).endswith(".json"):
        OPENED[str(arguments[0])] += 1


sys.addaudithook(_count)  # It cannot be removed again.


@pytest.fixture
def opened():
    """Count of the times that each JSON file was opened."""
    OPENED.clear()
    _IS_COUNTING.append(True)
    yield OPENED
    _IS_COUNTING.clear()


def make_model(**arguments):
    backbone = ksd.models.UViTBackbone(
        (8, 8, 1),
        (8, 16),
        (1, 1),
        num_heads=2,
        num_classes=10,
        embedding_dim=16,
        **arguments.pop("network", {}),
    )
    arguments = {"num_steps": 2, "guidance_scale": 2.0, **arguments}
    return ksd.models.DiffusionModel(backbone, **arguments)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model with weights that are not those of a new one, and its preset."""
    folder = tmp_path_factory.mktemp("preset") / "saved"
    model = make_model(prediction_type="x")
    rng = np.random.default_rng(0)
    for weight in model.backbone.weights:
        weight.assign(rng.normal(size=weight.shape))
    model.save_to_preset(folder)
    recipe = {"steps": 2, "batch_size": 4, "warmup_steps": 1}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return model, folder


@pytest.fixture
def hub(monkeypatch):
    """A stand-in of the Hugging Face hub: repositories are local folders."""
    repositories = {}

    def hf_hub_download(repo_id, filename):
        validate_repo_id(repo_id)
        path = repositories[repo_id] / filename
        if not path.exists():
            raise EntryNotFoundError(f"404: {filename}")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return repositories


def assert_same_weights(first, second):
    assert len(first.weights) == len(second.weights)
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        )


@pytest.mark.any_backend
def test_each_file_is_read_once(saved, opened):
    _, folder = saved
    preset = Preset.open(folder)
    preset.load()
    preset.load_backbone(load_weights=False)
    preset.part("schedule")
    names = ("config.json", "metadata.json", "recipe.json", "task.json")
    assert dict(opened) == {str(folder / name): 1 for name in names}


@pytest.mark.any_backend
def test_a_run_reads_each_file_of_its_preset_once(saved, tmp_path, opened):
    _, folder = saved
    ksd.training.train_run("digits", tmp_path / "run", folder, steps=1)
    ours = {k: v for k, v in opened.items() if k.startswith(str(folder))}
    assert len(ours) == 4 and set(ours.values()) == {1}


@pytest.mark.any_backend
def test_attributes(saved):
    _, folder = saved
    preset = Preset.open(folder)
    assert Preset.open(preset) is preset
    assert preset.name == str(folder) and preset.folder == folder
    assert preset.backbone_class is ksd.models.UViTBackbone
    assert preset.task_class is ksd.models.DiffusionModel
    assert preset.backbone_config["channels"] == [8, 16]
    assert preset.task_config["prediction_type"] == "x"
    assert preset.recipe["batch_size"] == 4
    assert preset.metadata["parameter_count"] > 0
    assert preset.has_weights and not preset.takes_text
    text = Preset.open("uvit_text_256")
    assert text.takes_text and not text.has_weights
    assert text.task_class is ksd.models.TextToImage


def test_load(saved):
    model, folder = saved
    loaded = Preset.open(folder).load(guidance_scale=3.0)
    assert_same_weights(model.backbone, loaded.backbone)
    assert loaded.guidance_scale == 3.0 and loaded.prediction_type == "x"
    assert_same_weights(model.backbone, Preset.open(folder).load_backbone())
    with pytest.warns(ksd.models.UnusualSettingWarning, match="8 pixels"):
        fresh = Preset.open(folder).load(False, image_shape=(16, 16, 1))
    assert fresh.backbone.image_shape == (16, 16, 1)
    hub_network = keras_hub.models.Backbone.from_preset(str(folder))
    assert type(hub_network) is ksd.models.UViTBackbone
    assert_same_weights(model.backbone, hub_network)


def test_weights_in_shards(saved, tmp_path):
    model, _ = saved
    model.save_to_preset(tmp_path, max_shard_size=1e-5)
    assert not (tmp_path / "model.weights.h5").exists()
    loaded = Preset.open(tmp_path).load()
    assert_same_weights(model.backbone, loaded.backbone)


@pytest.mark.any_backend
@pytest.mark.parametrize("is_task", [True, False])
def test_weights_replace_those_of_another_number_of_shards(
    saved, tmp_path, is_task
):
    for shard_size in (10, 1e-5, 10):
        model = make_model()
        (model if is_task else model.backbone).save_to_preset(
            tmp_path, max_shard_size=shard_size
        )
        loaded = Preset.open(tmp_path).load_backbone()
        assert_same_weights(model.backbone, loaded)


@pytest.mark.any_backend
def test_a_model_without_its_text_encoder_is_not_loaded(tmp_path):
    encoder = ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(["a ship"]),
        embedding_dim=8,
        num_layers=1,
        num_heads=2,
    )
    network = ksd.models.UViTBackbone(
        (8, 8, 1), (8, 16), (1, 1), num_heads=2, context_dim=8
    )
    ksd.models.TextToImage(network, encoder).save_to_preset(tmp_path)
    (tmp_path / "task.weights.h5").unlink()
    preset = Preset.open(tmp_path)
    with pytest.raises(InputError, match="no task.weights.h5"):
        preset.load()
    assert preset.load(load_weights=False).text_encoder.weights


@pytest.mark.any_backend
def test_a_preset_of_a_network_alone(saved, tmp_path):
    model, _ = saved
    model.backbone.save_to_preset(tmp_path)
    loaded = Preset.open(tmp_path).load()
    assert type(loaded) is ksd.models.DiffusionModel
    assert_same_weights(model.backbone, loaded.backbone)


@pytest.mark.any_backend
def test_handles_of_a_hub(saved, hub, opened):
    model, folder = saved
    hub["a/b"] = folder
    preset = Preset.open("hf://a/b")
    assert preset.folder is None and preset.recipe["steps"] == 2
    assert_same_weights(model.backbone, preset.load().backbone)
    assert set(opened.values()) == {1}
    with pytest.raises(InputError, match="cannot be read"):
        Preset.open("hf://a/b/c/d")
    with pytest.raises(InputError, match="cannot be read.*kaggle"):
        Preset.open("kaggle://a")


@pytest.mark.any_backend
def test_an_unreachable_hub_is_no_missing_file(saved, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def hf_hub_download(repo_id, filename):
        if filename == "config.json":
            return str(saved[1] / filename)
        raise LocalEntryNotFoundError("cannot reach huggingface.co")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    with pytest.raises(InputError, match="cannot reach huggingface.co"):
        Preset.open("hf://a/b")


@pytest.mark.any_backend
def test_a_run_starts_from_a_handle(saved, hub, tmp_path, capsys):
    _, hub["a/b"] = saved
    run = tmp_path / "run"
    model = ksd.training.train_run("digits", run, "hf://a/b", steps=1)
    assert model.prediction_type == "x"
    assert "from the weights of 'hf://a/b'" in capsys.readouterr().out
    assert ksd.training.RunSettings.read(run).recipe.batch_size == 4


@pytest.fixture(scope="module")
def particular(tmp_path_factory):
    """A preset whose settings are none of the defaults."""
    folder = tmp_path_factory.mktemp("preset") / "particular"
    network = {"rematerialize": ("transformer",), "dtype": "mixed_bfloat16"}
    make_model(
        network=network, prediction_type="x", stratified=True
    ).save_to_preset(folder)
    recipe = {"steps": 1, "batch_size": 4, "ema_decay": 0.5}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def test_a_run_inherits_what_its_preset_says(particular, tmp_path):
    model = ksd.training.train_run("digits", tmp_path / "run", particular)
    assert model.backbone.dtype_policy.name == "mixed_bfloat16"
    assert model.backbone.rematerialize == ("transformer",)
    assert model.stratified and model.prediction_type == "x"
    assert model.guidance_scale == 2.0
    # And so does a run that takes the run as its preset, recipe included.
    again = ksd.training.train_run("digits", tmp_path / "two", tmp_path / "run")
    assert again.backbone.dtype_policy.name == "mixed_bfloat16"
    assert again.stratified
    settings = ksd.training.RunSettings.read(tmp_path / "two")
    assert settings.recipe.ema_decay == 0.5


@pytest.mark.any_backend
def test_settings_of_a_run_override_those_of_its_preset(particular, tmp_path):
    model = ksd.training.train_run(
        "digits",
        tmp_path / "run",
        particular,
        dtype="float32",
        rematerialize=[],
        stratified=False,
    )
    assert model.backbone.dtype_policy.name == "float32"
    assert model.backbone.rematerialize == ()
    assert not model.stratified


@pytest.mark.any_backend
def test_lists_of_built_in_presets():
    names = ksd.models.builtin_presets()
    assert set(ksd.models.DiffusionBackbone.presets) == set(names)
    unets = ksd.models.UNetBackbone.presets
    assert set(unets) == {name for name in names if name.startswith("unet")}
    assert "description" in unets["unet_imagenet_128"]
    texts = set(ksd.models.TextToImage.presets)
    assert "emoji" in texts and "uvit_digits_16" not in texts
    assert texts | set(ksd.models.DiffusionModel.presets) == set(names)


@pytest.mark.any_backend
def test_of_another_class(saved, tmp_path):
    _, folder = saved
    vit = keras_hub.models.ViTBackbone((16, 16, 3), 8, 1, 2, 16, 16)
    keras_hub.models.ViTImageClassifier(vit, 2).save_to_preset(tmp_path)
    with pytest.raises(InputError, match="Classifier, not of a DiffusionModel"):
        Preset.open(tmp_path).load()
    with pytest.raises(InputError, match="of a DiffusionModel, not of a Text"):
        ksd.models.TextToImage.from_preset(folder)
    with pytest.raises(InputError, match="UViTBackbone, not of a UNetBackbone"):
        ksd.models.UNetBackbone.from_preset(folder)


@keras.saving.register_keras_serializable("tests")
class Special(ksd.models.DiffusionModel):
    pass


@pytest.mark.any_backend
def test_a_subclass_takes_the_preset_of_its_base(saved):
    model, folder = saved
    special = Special.from_preset(folder)
    assert type(special) is Special and special.prediction_type == "x"
    assert_same_weights(model.backbone, special.backbone)


@pytest.mark.any_backend
def test_settings_of_a_network_contradict_a_given_network(saved):
    model, folder = saved
    with pytest.raises(InputError, match="`dtype` and `image_shape` cannot"):
        Preset.open(folder).load(
            backbone=model.backbone, dtype="bfloat16", image_shape=(16, 16, 1)
        )


@pytest.mark.any_backend
def test_arguments_of_the_network_are_not_those_of_the_model(saved):
    _, folder = saved
    with pytest.raises(InputError, match="argument of the network") as error:
        ksd.models.DiffusionModel.from_preset(folder, num_classes=2)
    advice = f"backbone=UViTBackbone.from_preset('{folder}', num_classes=2)"
    assert str(error.value).endswith(advice)
    backbone = ksd.models.DiffusionBackbone
    with pytest.raises(InputError, match="not fit .* num_classes=2. Pass"):
        backbone.from_preset(folder, num_classes=2)
    fresh = backbone.from_preset(folder, load_weights=False, num_classes=2)
    with pytest.raises(InputError, match="not fit .* num_classes=2. Pass"):
        ksd.models.DiffusionModel.from_preset(folder, backbone=fresh)
    model = ksd.models.DiffusionModel.from_preset(
        folder, load_weights=False, backbone=fresh
    )
    with pytest.warns(UserWarning, match="the vectors of 2 new classes"):
        ksd.models.transfer_weights(folder, model)
    # What keeps all shapes keeps the weights.
    same = backbone.from_preset(folder, dropout=0.3)
    ksd.models.DiffusionModel.from_preset(folder, backbone=same)


@pytest.mark.any_backend
def test_misspelt_arguments_are_suggested(saved):
    _, folder = saved
    with pytest.raises(InputError, match="Did you mean 'guidance_scale'"):
        ksd.models.DiffusionModel.from_preset(folder, guidance_scal=2.0)
    with pytest.raises(InputError, match="Did you mean 'num_classes'"):
        ksd.models.DiffusionBackbone.from_preset(folder, num_clases=2)
    with pytest.raises(InputError, match="no argument `colour`.$"):
        make_model(network={"colour": 1})


@keras.saving.register_keras_serializable("tests")
class Terse(ksd.models.DiffusionModel):
    @classmethod
    def from_config(cls, config):
        raise ValueError


@pytest.mark.any_backend
def test_an_error_without_a_message_names_its_type(saved):
    _, folder = saved
    with pytest.raises(InputError, match="cannot be loaded: ValueError"):
        Terse.from_preset(folder)


def damage(folder, name, change):
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "name, change, message",
    [
        ("config.json", lambda c: c.pop("registered_name"), "registered_name"),
        ("config.json", lambda c: c.update(registered_name="a>B"), "'a>B'"),
        ("config.json", lambda c: c["config"].pop("image_shape"), "no network"),
        ("config.json", lambda c: c["config"].pop("channels"), "channels"),
        ("config.json", lambda c: c.update(config=[]), "no Keras object"),
        ("task.json", lambda c: c.update(registered_name="a>B"), "'a>B'"),
        ("task.json", lambda c: c["config"].update(colour=1), "colour"),
        (
            "task.json",
            lambda c: c["config"]["schedule"].update(registered_name="a>B"),
            "cannot be loaded",
        ),
    ],
)
def test_foreign_content_is_one_line(saved, tmp_path, name, change, message):
    shutil.copytree(saved[1], tmp_path / "damaged")
    damage(tmp_path / "damaged", name, change)
    with pytest.raises(InputError, match=message) as error:
        Preset.open(tmp_path / "damaged").load()
    assert "\n" not in str(error.value)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "name", ["config.json", "task.json", "recipe.json", "model.weights.h5"]
)
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[1]"])
def test_damaged_files_are_one_line(saved, tmp_path, name, content):
    shutil.copytree(saved[1], tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_bytes(content)
    with pytest.raises(InputError, match="damaged") as error:
        Preset.open(tmp_path / "damaged").load()
    assert "\n" not in str(error.value)


@pytest.mark.any_backend
def test_what_is_no_preset(tmp_path):
    with pytest.raises(InputError, match="Did you mean uvit_digits_16"):
        Preset.open("uvit_digit_16")
    with pytest.raises(InputError, match="no preset named"):
        Preset.open(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="registered_name"):
        Preset.open(tmp_path)
    with pytest.raises(InputError, match="configuration without weights"):
        Preset.open("uvit_digits_16").load()
    assert Preset.open(preset_folder("uvit_digits_16")).recipe["steps"] == 4000


@pytest.mark.any_backend
def test_networks_of_keras_hub_are_refused(tmp_path):
    keras_hub.models.ViTBackbone((16, 16, 3), 8, 1, 2, 16, 16).save_to_preset(
        tmp_path
    )
    with pytest.raises(InputError, match="ViTBackbone"):
        Preset.open(tmp_path).load()


@pytest.mark.any_backend
def test_the_vocabulary_is_learned_once():
    encoder = Preset.open("uvit_emoji_64").part("text_encoder")
    assert encoder.vocabulary is None
    with pytest.raises(InputError, match="with_vocabulary"):
        encoder.tokenize(["a ship"])
    ready = encoder.with_vocabulary(["a ship"])
    assert "ship" in ready.vocabulary
    assert ready.with_vocabulary(["a house"]) is ready
    assert ready.tokenize(["a ship"])[1].sum() == 3
