"""Images hold the settings that they were drawn with, and are drawn again."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from tests.helpers.commands import run_command

pytestmark = pytest.mark.any_backend


def read(path):
    with Image.open(path) as image:
        text = {name: json.loads(value) for name, value in image.text.items()}
        return np.asarray(image), text


@pytest.fixture
def generate(trained, tmp_path):
    shutil.copytree(trained[0] / "run" / "preset", tmp_path / "model")

    def run(*words):
        result = run_command("generate", *words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return result

    return run


def test_a_sheet_is_drawn_again_from_its_file(generate, tmp_path):
    options = ["--labels", "red,blue", "--num-images", "5", "--steps", "2"]
    options += ["--guidance", "2", "--guidance-interval=-9,9", "--sampler"]
    options += ["ddim:eta=0.5", "--spacing", "power", "--clipping", "none"]
    model = ["--model", tmp_path / "model"]
    shown = generate(*model, *options, "--output", "a.png").stdout
    pixels, text = read(tmp_path / "a.png")
    assert f"(seed {text['seed']})" in shown
    expected = {
        "keras-simple-diffusion": ksd.__version__,
        "command": "generate",
        "model": "model",
        "labels": "1,0",
        "captions": ["red", "blue", "red", "blue", "red"],
        "number": 0,
        "num_images": 5,
        "steps": 2,
        "guidance": 2.0,
        "guidance_interval": "-9.0,9.0",
        "sampler": "ddim:eta=0.5",
        "spacing": "power",
        "clipping": "none",
    }
    assert expected.items() <= text.items()
    assert len(text["model_content"]) == 64
    assert str(tmp_path) not in str(text)
    generate("--like", "a.png", "--output", "b.png")
    again, same_text = read(tmp_path / "b.png")
    np.testing.assert_array_equal(again, pixels)
    assert same_text == text
    generate("--like", "a.png", "--scale", "16", "--output", "large.png")
    large, _ = read(tmp_path / "large.png")
    np.testing.assert_allclose(large[4 + 8, 4 + 8], pixels[4 + 4, 4 + 4])
    generate("--like", "a.png", "--labels", "blue", "--output", "c.png")
    _, other = read(tmp_path / "c.png")
    changed = {k for k in text if other[k] != text[k]}
    assert changed == {"labels", "captions"}


def test_an_image_of_a_folder_is_drawn_again(generate, tmp_path):
    model = ["--model", "model", "--steps", "2", "--num-images", "3"]
    generate(*model, "--output", "many")
    pixels, text = read(tmp_path / "many" / "000002.png")
    assert text["number"] == 2 and text["captions"] == ["blue"]
    generate("--like", "many/000002.png", "--output", "one.png")
    sheet, again = read(tmp_path / "one.png")
    drawn = sheet[4 : 4 + 64 : 8, 4 : 4 + 64 : 8].astype(int)
    np.testing.assert_allclose(drawn, pixels, atol=1)
    del text["sha256"]
    assert again == text
    generate("--like", "many/000002.png", "--output", "others")
    assert [p.name for p in (tmp_path / "others").glob("*.png")] == [
        "000002.png"
    ]


def test_a_webp_file_holds_its_settings_too(generate, tmp_path):
    words = ["--model", tmp_path / "model", "--labels", "red,blue", "--steps"]
    generate(*words, "2", "--output", "a.webp")
    generate("--like", "a.webp", "--output", "b.png")
    pixels, text = read(tmp_path / "b.png")
    with Image.open(tmp_path / "a.webp") as image:
        assert image.format == "WEBP"
        np.testing.assert_array_equal(image, pixels)
    assert text["captions"] == ["red", "blue"] and text["steps"] == 2


def test_a_changed_model_is_told(generate, tmp_path):
    generate("--model", "model", "--steps", "1", "--output", "a.png")
    model = ksd.models.Preset.open(tmp_path / "model").load()
    weight = model.backbone.trainable_weights[0]
    weight.assign(weight + 0.1)
    model.save_to_preset(tmp_path / "model")
    with pytest.warns(UserWarning, match="not the one that drew 'a.png'"):
        generate("--like", "a.png", "--output", "b.png")


def test_what_cannot_be_repeated_is_one_line(generate, error_of, tmp_path):
    generate("--model", "model", "--steps", "1", "--output", "a.png")
    with Image.open(tmp_path / "a.png") as image:
        text = dict(image.text)
        image.save(tmp_path / "plain.png")
    repeat = ["generate", "--like"]
    assert "holds no settings" in error_of(*repeat, "plain.png")
    exif = Image.Exif()
    for description in ("", "[1]", "{}"):
        exif[0x010E] = description
        Image.new("RGB", (8, 8)).save(tmp_path / "plain.webp", exif=exif)
        assert "holds no settings" in error_of(*repeat, "plain.webp")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    assert "not a readable .png" in error_of(*repeat, "cut.png")
    assert "No such file" in error_of(*repeat, "absent.png")
    odd = {"number": -1, "seed": [], "prompt": [1], "num_images": 10**9}
    for name, value in odd.items():
        settings = {k: json.loads(v) for k, v in text.items()} | {name: value}
        ksd.utils.image_files.save_image(
            ksd.utils.show(np.zeros((8, 8, 1), "uint8")),
            tmp_path / "odd.png",
            settings,
        )
        assert "damaged" in error_of(*repeat, "odd.png"), name
    (tmp_path / "model").rename(tmp_path / "moved")
    error = error_of(*repeat, "a.png")
    assert "'model' of 'a.png' is not found here" in error
    assert "--model" in error_of("generate")


def test_edits_hold_their_settings(trained, call, error_of, tmp_path):
    image = trained[0] / "images" / "red" / "0.png"
    call("edit", "--image", image, "--strength", "0.5", "--num-images", "2")
    _, text = read(tmp_path / "edited.png")
    expected = {"command": "edit", "image": "0.png", "strength": 0.5}
    assert expected.items() <= text.items()
    assert isinstance(text["seed"], int) and text["steps"] == 3
    ends = ["--first", "3", "--second", image, "--num-images", "2"]
    call("interpolate", *ends)
    _, text = read(tmp_path / "interpolated.png")
    expected = {"first": "3", "second": "0.png", "sampler": "ddim"}
    assert expected.items() <= text.items() and "seed" not in text
    error = error_of("generate", "--like", "edited.png")
    assert "which is of `edit`" in error


def test_samples_of_a_run_hold_their_settings(trained):
    _, text = read(trained[0] / "run" / "samples.png")
    expected = {"command": "train", "model": "run", "training_step": 7}
    assert expected.items() <= text.items()
    assert set(text["captions"]) == {"red", "blue"}
