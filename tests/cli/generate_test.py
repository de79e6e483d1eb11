"""`generate` and the editing commands, in this process."""

import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.cli.shared import choose_execution
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command
from tests.helpers.models import make_model
from tests.helpers.models import randomize


def test_generate_from_a_run(call, tmp_path):
    output = call(
        *["generate", "--labels", "red,1,2", "--num-images", "5"],
        *["--guidance", "2", "--seed", "0"],
        *["--output", "out/sheet.png"],
    )
    assert "5 images are in out/sheet.png" in output
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 3 * 64


@pytest.mark.parametrize(
    ("count", "num_steps", "is_short"),
    [(1, 16, True), (4, 4, True), (1, 17, False), (5, 4, False)],
)
def test_short_drawings_need_no_program(count, num_steps, is_short):
    model = make_model()
    randomize(model.backbone)
    options = {"labels": [1] * count, "num_steps": num_steps, "seed": 3}
    expected = model.generate(**options)
    choose_execution(model, count, num_steps)
    is_tensorflow = keras.config.backend() == "tensorflow"
    assert model.run_eagerly == (is_short and is_tensorflow)
    found = model.generate(**options)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.any_backend
def test_bad_generate_arguments(trained, error_of, tmp_path):
    place, _ = trained
    model = ["--model", str(place / "run")]
    error = error_of("generate", *model, "--labels", "3")
    assert "[0, 1], or 2 for no class. Received: 3" in error
    error = error_of("generate", *model, "--labels", "red,green")
    assert "no class named 'green'. Its classes: blue, red" in error
    error = error_of("generate", "--model", "uvit_digit")
    assert "Did you mean uvit_digits_16" in error
    error = error_of("generate", "--model", "uvit_digits_16")
    assert "configuration without weights" in error
    error = error_of("generate", *model, "--steps", "0")
    assert "--steps=0" in error
    error = error_of("generate", *model, "--output", "images.gif")
    assert "file, or a folder. Received: --output images.gif" in error
    error = error_of("generate", *model, "--resume")
    assert "continues to fill a folder" in error
    error = error_of("generate", *model, "--resume", "--output", "new")
    assert "nothing to resume" in error
    error = error_of("generate", *model, "--guidance-interval", "3")
    assert "two log-SNRs, such as -3,3. Received: 3" in error
    error = error_of("generate", *model, "--guidance-interval", "3,-3")
    assert "lower and a higher log-SNR. Received: 3,-3" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_backend
def test_generate_fills_a_folder_and_goes_on(call, error_of, trained, tmp_path):
    place, _ = trained
    options = ["--labels", "red,blue", "--batch-size", "2", "--output", "many"]
    call("generate", *options, "--num-images", "3", "--seed", "5")
    folder = tmp_path / "many"

    def read(name):
        return np.asarray(Image.open(folder / name))

    first = read("000000.png")
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == ["000000.png", "000001.png", "000002.png"]
    lost = read("000001.png")
    (folder / "000001.png").unlink()
    call("generate", *options, "--num-images", "5", "--resume")
    assert len(list(folder.glob("*.png"))) == 5
    np.testing.assert_array_equal(read("000000.png"), first)
    np.testing.assert_allclose(read("000001.png"), lost, atol=1)
    model = ["--model", str(place / "run"), "--steps", "3"]
    options = [*model, "--labels", "red", "--output", "many"]
    error = error_of("generate", *options)
    assert "holds something already" in error
    assert "or pass --resume to continue" in error
    error = error_of("generate", *options, "--resume")
    assert "begun with --labels=1,0. Received: --labels=1." in error


@pytest.fixture(scope="module")
def copies(trained, tmp_path_factory):
    """A preset whose weights can be changed, and images drawn from it."""
    place, _ = trained
    folder = tmp_path_factory.mktemp("copies")
    shutil.copytree(place / "run" / "preset", folder / "model")
    command = ("generate", "--model", "model", "--steps", "2", "--seed", "1")
    command += ("--labels", "0,1", "--num-images", "6", "--output", "drawn")
    result = run_command(*command, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, command


def pixels_of(folder):
    return [np.asarray(Image.open(p)) for p in sorted(folder.glob("*.png"))]


@pytest.mark.any_backend
def test_damaged_images_are_drawn_again(copies):
    folder, command = copies
    drawn = folder / "drawn"
    expected = pixels_of(drawn)
    whole = (drawn / "000001.png").read_bytes()
    damaged = {
        "000000.png": whole[: len(whole) // 2],
        "000001.png": bytes(len(whole)),
        "000002.png": b"",
        "000003.png": whole,  # Another image of the same model.
    }
    for name, content in damaged.items():
        (drawn / name).write_bytes(content)
    Image.fromarray(expected[4]).save(drawn / "000004.png")  # Without digest.
    kept = (drawn / "000005.png").stat().st_mtime_ns
    assert run_command(*command, "--resume", cwd=folder).returncode == 0
    # The batches are others.
    np.testing.assert_allclose(pixels_of(drawn), expected, atol=1)
    assert (drawn / "000005.png").stat().st_mtime_ns == kept


@pytest.mark.any_backend
@pytest.mark.parametrize("is_guide", [False, True])
def test_a_changed_model_does_not_fill_the_folder_of_another(
    copies, tmp_path, is_guide
):
    shutil.copytree(copies[0], tmp_path / "copies")
    folder, command = tmp_path / "copies", list(copies[1])
    changed = folder / "model"
    if is_guide:
        changed = shutil.copytree(folder / "model", folder / "guide")
        command[-1] = "guided"
        command += ["--guidance-model", "guide", "--guidance", "2"]
        assert run_command(*command, cwd=folder).returncode == 0
    # The same weights and settings, written again, are the same model.
    model = ksd.models.Preset.open(changed).load()
    model.save_to_preset(changed)
    command.append("--resume")
    assert run_command(*command, cwd=folder).returncode == 0
    weight = model.backbone.trainable_weights[0]
    weight.assign(weight + 0.1)
    model.save_to_preset(changed)
    error = error_line(run_command(*command, cwd=folder))
    assert "model has changed since" in error and "Restore the old" in error


@pytest.mark.any_backend
def test_bad_options_leave_no_folder(trained, error_of, tmp_path):
    place, _ = trained
    model = ["--model", str(place / "run"), "--output", "many"]
    for options in (["--steps", "0"], ["--guidance", "nan"]):
        error_of("generate", *model, *options)
    options = ["--guidance", "1", "--guidance-model", str(place / "run")]
    error_of("generate", *model, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_backend
def test_generate_draws_the_steps(call, tmp_path):
    options = ["--labels", "0,1", "--sampler", "dpm", "--spacing", "power"]
    call("generate", *options, "--steps-strip", "--output", "strip.png")
    with Image.open(tmp_path / "strip.png") as sheet:
        assert sheet.width > 3 * 64 and sheet.height > 2 * 64


@pytest.mark.any_backend
@pytest.mark.parametrize("option", [["--steps-strip"], ["--scale", "2"]])
def test_options_of_a_sheet_are_refused_for_a_folder(
    option, trained, error_of, tmp_path
):
    place, _ = trained
    model = ["--model", str(place / "run"), "--labels", "0"]
    error = error_of("generate", *model, *option, "--output", "many")
    assert f"`{option[0]}` is for a sheet" in error
    assert list(tmp_path.iterdir()) == []


def test_arguments_of_the_sampler(call, error_of, trained, tmp_path):
    place, _ = trained
    text = "ddpm:variance_interpolation=1"
    options = ["--labels", "0,1", "--seed", "3"]
    call("generate", *options, "--sampler", text, "--output", "many")
    model = ksd.models.DiffusionModel.from_preset(str(place / "run"))
    options = {"labels": [0, 1], "seed": 3, "num_steps": 3}
    sampler = ksd.samplers.DDPMSampler(variance_interpolation=1.0)
    expected = model.generate(**options, sampler=sampler)
    for index, image in enumerate(expected):
        drawn = np.asarray(Image.open(tmp_path / "many" / f"00000{index}.png"))
        np.testing.assert_allclose(drawn, image, atol=1)
    assert (np.abs(model.generate(**options) - expected.astype(int)) > 1).any()
    options = ["generate", "--model", str(place / "run"), "--sampler"]
    error = error_of(*options, "dpm:orders=2")
    assert '"dpm" takes (order=2, stochastic=False)' in error
    error = error_of(*options, "euler")
    assert 'Use one of "ddpm", "ddim", "heun", "dpm"' in error


@pytest.mark.any_backend
def test_editing_commands(call, error_of, trained, tmp_path):
    place, _ = trained
    red = ["--image", place / "images" / "red" / "0.png"]
    mask = np.zeros((8, 8), "uint8")
    mask[4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    three = ["--num-images", "3", "--seed", "0"]
    call("edit", *red, *three, "--strength", "0.5", "--labels", "blue")
    call("inpaint", *red, *three, "--mask", "mask.png", "--sampler", "ddim")
    call("upscale", *red, *three, "--factor", "2")
    ends = ["--first", "3", "--second", red[1]]
    call("interpolate", *ends, "--num-images", "3", "--labels", "1")
    for name in ("edited", "inpainted", "upscaled", "interpolated"):
        with Image.open(tmp_path / f"{name}.png") as sheet:
            assert sheet.width > 2 * 64
    model = ["--model", str(place / "run")]
    red = ["--image", str(red[1])]
    error = error_of("edit", *model, *red, "--strength", "2")
    assert "--strength=2.0" in error
    error = error_of("upscale", *model, *red, "--factor", "3")
    assert "must divide the model's images of 8 x 8. Received: 3" in error
    (tmp_path / "no.png").write_text("no image")
    error = error_of("edit", *model, "--image", "no.png")
    assert "'no.png' is not a readable image" in error
    error = error_of("edit", *model, *red, "--output", "folder")
    assert "a .png, .webp or .jpg file. Received: --output folder" in error
