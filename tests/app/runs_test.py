"""Runs side by side: their results, and nothing else of the machine."""

import shutil

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.app.runs import Runs
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.training.settings import RunSettings

pytestmark = pytest.mark.any_backend


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    for number, name in enumerate(("first", "second & <b>")):
        run = folder / name
        (run / "preset").mkdir(parents=True)
        (run / "samples").mkdir()
        settings = RunSettings(
            data="/home/someone/photos",
            preset="uvit_digits_16",
            recipe=Recipe(steps=300, batch_size=8 + number, learning_rate=1e-3),
            image_size=[16, 16],
            facts={"fingerprint": "f", "num_images": 10},
        )
        settings.write(run)
        rows = ["step,seconds,loss,val_loss,level_loss_0,level_loss_1"]
        rows += [f"{i},{i},0.{9 - i},,0.{9 - i},0.5" for i in (1, 2, 3)]
        (run / "history.csv").write_text("\n".join(rows) + "\n")
        for sheet in ("samples/000030.png", "samples/000100.png"):
            Image.new("RGB", (2000, 100), (number, 0, 0)).save(run / sheet)
    return Runs(folder)


def test_results_of_runs(runs):
    names = runs.names()
    assert sorted(names) == ["first", "second & <b>"]
    page = runs.losses(["first", "second & <b>"])
    assert page.count("<svg") == 4
    assert page.count("3 of 300 steps") == 2
    assert "<b>" not in page and "second &amp; &lt;b&gt;" in page
    rows = {row[0]: row[1:] for row in runs.settings(["first", "second & <b>"])}
    assert rows["batch_size"] == ["8", "9"]
    assert next(iter(rows)) == "batch_size"  # Those that differ come first.
    assert rows["data"] == ["photos", "photos"]
    assert "/home" not in str(rows)
    sheets = runs.samples(["second & <b>"])
    assert [caption for _, caption in sheets] == [
        "second & <b>, step 30",
        "second & <b>, step 100",
    ]
    assert max(sheets[0][0].size) <= 768
    assert np.asarray(sheets[0][0])[0, 0, 0] == 1


def test_nothing_else_can_be_named(runs, tmp_path):
    shutil.copytree(runs.folder / "first", tmp_path / "outside")
    (runs.folder / "link").symlink_to(tmp_path / "outside")
    assert "link" not in runs.names()
    for name in ("../outside", "link", "/etc", "first/preset", ""):
        with pytest.raises(ksd.InputError, match="no such run"):
            runs.losses([name])


def test_a_link_within_a_run_is_not_followed(runs, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(secret)
    (runs.folder / "first" / "samples.png").symlink_to(secret)
    (runs.folder / "first" / "samples" / "000200.png").symlink_to(secret)
    assert len(runs.samples(["first"])) == 2


def test_damaged_runs_are_told(runs):
    run = runs.folder / "first"
    (run / "config.json").write_text("{")
    (run / "samples" / "000030.png").write_bytes(b"no image")
    assert "cannot be read" in runs.losses(["first"])
    assert runs.settings(["first"]) == [["settings", "cannot be read"]]
    assert len(runs.samples(["first"])) == 1
    (run / "history.csv").write_text("step\nx\n")
    assert "cannot be read" in runs.losses(["first"])


def test_no_folder():
    assert Runs(None).names() == []
    assert "Choose" in Runs(None).losses(None)
