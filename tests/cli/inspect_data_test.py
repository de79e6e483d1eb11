import sys

import numpy as np
import pytest
from PIL import Image
from PIL import ImageCms

from keras_simple_diffusion import cli

pytestmark = pytest.mark.any_backend


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run the command in this process; returns status and both outputs."""

    def run(*arguments):
        argv = ["keras-simple-diffusion", "inspect-data", *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def pets(tmp_path):
    rng = np.random.default_rng(0)
    for split, name, count in (
        ("train", "cat", 1),
        ("train", "dog", 9),
        ("test", "dog", 2),
    ):
        for i in range(count):
            path = tmp_path / "pets" / split / name / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (150, 140 + i, 3), "uint8")
            Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:500])
    return tmp_path / "pets"


def test_what_is_told(run_here, pets, tmp_path):
    sheet = tmp_path / "sheets" / "pets.png"
    code, out, err = run_here("--data", str(pets), "--output", str(sheet))
    assert code == 0 and not err
    assert "12 images in" in out and "10 to train on, 2 to hold out" in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "width 140 143 148" in lines and "height 150 150 150" in lines
    assert "modes: RGB 11" in lines and "formats: JPEG 11" in lines
    assert any(line.startswith("dog 11 █") for line in lines)
    assert any("the largest has 11 times" in line for line in lines)
    assert "1 of 12 images cannot be read:" in lines
    assert any(line.startswith("test/dog/1.jpg: OSError") for line in lines)
    assert "at 128 pixels" in lines
    assert "0 of 11 images would be enlarged" in lines
    assert any("ShiftedCosineSchedule(128, noise_size=64)" in x for x in lines)
    assert lines[-2].endswith(f"train --data {pets}")
    with Image.open(sheet) as image:
        assert image.width > 4 * 128 and image.height > 3 * 128


def test_values_profiles_and_what_is_left_out(run_here, tmp_path):
    folder = tmp_path / "scans"
    (folder / "Training").mkdir(parents=True)
    ramp = np.tile(np.arange(0, 4000, 125, "uint16"), (32, 1))
    for i in range(2):
        Image.fromarray(ramp).save(folder / "Training" / f"{i}.png")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (32, 32), "red")
    image.save(folder / "Training" / "2.jpg", icc_profile=srgb)
    (folder / "Training" / "a\x1b[31m.heic").write_bytes(b"")
    (folder / "preview.png").write_bytes(b"")
    (folder / "notes.txt").write_text("notes")
    with pytest.warns(UserWarning) as caught:
        code, out, err = run_here("--data", str(folder))
    assert code == 0 and "\x1b" not in out + err
    for text in (
        "3 images in",
        "values of 2 images of mode I;16: 0 to 3875; 0 becomes black and 65535",
        "2 of them are nearly black in this range: Training/0.png, Training/1",
        "1 with a color profile, converted to sRGB",
        "1 left out, not an image: notes.txt",
        "beside the folders of the splits: preview.png",
        "of the format .heic, which is not read: Training/a\\x1b[31m.heic",
    ):
        assert text in out
    told = str(caught[0].message)
    assert "preview.png" in told and ".heic" in told and "notes" not in told


def test_image_size_and_digits(run_here):
    code, out, _ = run_here("--data", "digits", "--image-size", "16")
    assert code == 0
    assert "1,437 to train on, 360 to hold out" in out
    assert out.rstrip().endswith("train --data digits --image-size 16")


def test_the_command_that_is_proposed(run_here, tmp_path):
    folder = tmp_path / "my pets"
    folder.mkdir()
    Image.effect_noise((64, 64), 50).convert("RGB").save(folder / "1.png")
    (folder / "1.txt").write_text("a cat")
    _, out, _ = run_here("--data", str(folder))
    assert "1 image in" in out and "1 captions of 2 to 2 words" in out
    assert out.rstrip().endswith(f"train --data '{folder}'")


def test_8_bits_that_are_nearly_black(run_here, tmp_path):
    Image.fromarray(np.eye(9, dtype="uint8")).save(tmp_path / "mask.png")
    Image.effect_noise((9, 9), 50).convert("LA").save(tmp_path / "ok.png")
    Image.new("P", (9, 9)).save(tmp_path / "palette.png")
    Image.new("L", (9, 9)).save(tmp_path / "black.png")
    _, out, _ = run_here("--data", str(tmp_path))
    assert "values of 2 images of mode L: 0 to 1; 0 becomes black" in out
    assert "values of 1 image of mode LA" in out and "mode P:" not in out
    assert "1 of them are nearly black in this range: mask.png. Scale th" in out
    assert "TIFF" not in out


def test_what_is_left_out_of_each_split(run_here, tmp_path):
    for split in ("train", "test"):
        for i in range(2):
            (tmp_path / split).mkdir(exist_ok=True)
            Image.new("RGB", (9, 9)).save(tmp_path / split / f"{i}.png")
        (tmp_path / split / "0.txt").write_text("a cat")
    with pytest.warns(UserWarning, match="without a caption"):
        _, out, _ = run_here("--data", str(tmp_path))
    told = "2 left out, without a caption: train/1.png, test/1.png"
    assert told in out


def test_nothing_to_look_at(run_here, tmp_path):
    code, _, err = run_here("--data", str(tmp_path / "now\x1b[31m\nhere"))
    assert code == 2 and err.startswith("Error: There is no folder")
    assert "now\\x1b[31m\\nhere'. Expected the path" in err
    (tmp_path / "1.png").write_bytes(b"")
    code, _, err = run_here("--data", str(tmp_path))
    assert code == 2 and "None of the 1 images" in err
