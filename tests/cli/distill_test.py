"""`distill`, in this process."""

import json

import pytest

import keras_simple_diffusion as ksd
from tests.helpers.commands import run_command

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def distilled(trained, tmp_path_factory):
    """The output of a distillation, and its folder."""
    place, _ = trained
    folder = tmp_path_factory.mktemp("distill")
    options = ["--teacher", f"{place}/run/", "--data", place / "images"]
    result = run_command(
        "distill", *options, "--steps", "2", "--updates", "3", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, folder / "runs" / "run-2-steps"


def test_distill_needs_a_teacher_and_images(distilled):
    stdout, run = distilled
    assert "teacher    " in stdout and "4 steps, guidance 2" in stdout
    assert "3 updates of 4 images" in stdout
    assert "The run is in runs/run-2-steps: open index.html" in stdout
    assert "The student draws in 2 steps." in stdout
    config = json.loads((run / "config.json").read_text())
    assert config["student"]["method"] == "consistency"
    assert config["data"].endswith("images")
    student = ksd.models.DiffusionModel.from_preset(run)
    assert (student.num_steps, student.class_names) == (2, ["blue", "red"])


def test_a_student_draws_and_refuses_other_steps(distilled, error_of, tmp_path):
    _, run = distilled
    draw = ["generate", "--model", str(run), "--output", "a.png"]
    result = run_command(*draw, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    error = error_of(*draw, "--steps", "5")
    assert "distilled for 2 steps of DDIM" in error
    assert "--steps=5" in error and "--guidance=1.0" in error
    assert "without guidance" in error_of(*draw, "--guidance", "2")


def test_a_run_is_resumed_by_either_command(distilled, tmp_path):
    _, run = distilled
    for command, option, count in (
        ("distill", "--updates", 4),
        ("train", "--steps", 5),
    ):
        options = ["--resume", run, option, count]
        result = run_command(command, *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"step {count}/{count}" in result.stdout
    result = run_command("distill", "--resume", run, cwd=tmp_path)
    assert "all 5 steps are done" in result.stdout


def test_progressive_distillation_that_ends_early(trained, tmp_path):
    place, _ = trained
    options = ["--teacher", place / "run", "--data", place / "images"]
    options += ["--steps", "16", "--method", "progressive"]
    options += ["--updates", "4", "--output", "run"]

    def train(*options):
        result = run_command("distill", *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        student = ksd.models.DiffusionModel.from_preset(tmp_path / "run")
        assert student.num_steps == student.distilled_steps
        return student.num_steps, " ".join(result.stdout.split())

    # The time is over after the first update, in the first of two phases.
    steps, stdout = train(*options, "--minutes", "0")
    assert steps == 32
    assert "draws in 32 steps so far. In 16 it draws after" in stdout
    assert "distill --resume run" in stdout
    steps, stdout = train("--resume", "run", "--minutes", "60")
    assert steps == 16
    assert "The student draws in 16 steps." in stdout
    assert "--resume" not in stdout


def test_bad_distill_arguments(trained, distilled, error_of, tmp_path):
    place, _ = trained
    base = ["distill", "--teacher", str(place / "run"), "--output", "new"]
    data = ["--data", str(place / "images")]
    assert "needs --teacher and --data" in error_of("distill")
    assert "needs --teacher and --data" in error_of(*base)
    error = error_of("distill", *data, "--teacher", "uvit_digits_16")
    assert "without weights. Train it first" in error
    error = error_of("distill", *data, "--teacher", "photos_64")
    assert "does not draw the classes blue, red of the images" in error
    _, run = distilled
    error = error_of("distill", *data, "--teacher", str(run))
    assert "is a student, for 2 steps" in error
    assert "--updates=0" in error_of(*base, *data, "--updates", "0")
    assert "--guidance=nan" in error_of(*base, *data, "--guidance", "nan")
    error = error_of(*base, *data, "--guidance", "1,x")
    assert "two such as 1,4 for a range. Received: 1,x" in error
    assert "--guidance=1.0" in error_of(*base, *data, "--guidance", "4,1")
    error = error_of("distill", "--resume", str(run), "--steps", "3")
    assert "keeps its settings; only `--updates`" in error
    assert "Received: --steps=3" in error
    error = error_of("distill", "--resume", str(place / "none"))
    assert "There is no run at" in error
    for option in (["--steps", "0"], ["--method", "magic"]):
        refused = run_command(*base, *data, *option, cwd=tmp_path)
        assert refused.returncode == 2 and option[0] in refused.stderr
    assert not (tmp_path / "new").exists()
