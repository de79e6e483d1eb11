"""What all commands have: classes by name, help, examples, version."""

import json
import re

import pytest

from keras_simple_diffusion import __version__
from tests.helpers.commands import run_command

pytestmark = pytest.mark.any_backend

COMMANDS = (
    *("train", "embed", "average", "generate", "edit", "inpaint", "upscale"),
    *("interpolate", "export", "evaluate", "inspect-data", "presets"),
)


def test_version(tmp_path):
    result = run_command("--version", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout == f"keras-simple-diffusion {__version__}\n"


def test_completion_is_offered(tmp_path):
    text = run_command("--help", cwd=tmp_path).stdout
    assert "--install-completion" in text
    asked = {
        "_KERAS_SIMPLE_DIFFUSION_COMPLETE": "complete_bash",
        "COMP_WORDS": "keras-simple-diffusion train --min",
        "COMP_CWORD": "2",
    }
    assert run_command(cwd=tmp_path, **asked).stdout.split() == ["--minutes"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_its_examples(tmp_path, command):
    result = run_command(command, "-h", cwd=tmp_path, COLUMNS="300")
    assert result.returncode == 0
    text, _, examples = result.stdout.partition("Examples:")
    assert f"keras-simple-diffusion {command}" in examples
    for option in re.findall(r"--[a-z-]+", examples):
        assert option in text
    if "--steps" in text:
        assert "training steps" in text or "Sampling steps" in text


def test_options_of_train_are_grouped(tmp_path):
    text = run_command("train", "--help", cwd=tmp_path).stdout
    panels = [line for line in text.splitlines() if line.startswith("╭─")]
    titles = [panel.strip("╭─╮ ") for panel in panels]
    groups = ["Data", "Network", "Recipe", "Results", "Machine"]
    assert titles == ["Options", *groups]


def test_presets_are_sorted_by_size(tmp_path):
    facts = json.loads(run_command("presets", "--json", cwd=tmp_path).stdout)
    sizes = [round(each["parameters"], -6) for each in facts]
    assert sizes == sorted(sizes) and len(sizes) > 10
    by_name = {each["name"]: each for each in facts}
    assert by_name["emoji"]["weights"]
    assert by_name["uvit_digits_16"]["trains_on"] == "a CPU"
    assert by_name["uvit_small_64"]["trains_on"] == "one GPU"
    assert by_name["uvit_imagenet_512"]["trains_on"] == "a pod"


@pytest.mark.parametrize("width", ["80", "100"])
def test_the_list_of_presets_is_readable(tmp_path, monkeypatch, width):
    facts = json.loads(run_command("presets", "--json", cwd=tmp_path).stdout)
    lines = run_command("presets", cwd=tmp_path, COLUMNS=width).stdout
    lines = lines.splitlines()
    assert max(map(len, lines)) <= int(width)
    rows = {line.split()[0]: i for i, line in enumerate(lines)}
    for each in facts:
        row = rows[each["name"]]
        assert f"{each['parameters'] / 1e6:,.1f} M" in lines[row]
        assert each["trains_on"] in lines[row]
        assert lines[row].endswith("yes" if each["weights"] else "no")
        assert lines[row + 1].split() <= each["description"].split()


def test_classes_in_any_case_of_letters(trained, error_of, tmp_path):
    place, _ = trained
    model = ["--model", str(place / "run"), "--steps", "1"]
    result = run_command(
        *["generate", *model, "--labels", "RED, Blue"],
        *["--output", "sheet.png"],
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "2 images" in result.stdout
    error = error_of("generate", *model, "--labels", "blu")
    assert error.endswith("no class named 'blu'. Did you mean blue?")
    error = error_of("generate", *model, "--prompt", "Red")
    assert "choose them by --labels red. Received: --prompt Red" in error
    error = error_of("generate", *model, "--prompt", "pear")
    assert "choose them by --labels. Received: --prompt pear" in error


def test_errors_speak_of_options(trained, error_of):
    place, _ = trained
    model = ["--model", str(place / "run")]
    error = error_of("generate", *model, "--steps", "0")
    assert "`--steps` must be" in error and "Received: --steps=0" in error
    error = error_of("generate", *model, "--guidance", "nan")
    assert "`--guidance` must be" in error
    error = error_of("generate", "--model", "uvit_digits_16")
    assert "--data FOLDER --preset uvit_digits_16" in error
    train = ["train", "--data", "digits", "--output", "new"]
    error = error_of(*train, "--initialize-from", "uvit_small_64")
    assert "Leave out `--initialize-from`" in error
    error = error_of(*train, "--batch-size", "7", "--accumulate", "2")
    assert "`--batch-size` must be a multiple of `--accumulate`" in error


def test_files_that_cannot_be_written_are_one_line(trained, error_of):
    place, _ = trained
    options = ["--model", str(place / "run"), "--steps", "1"]
    error = error_of("generate", *options, "--output", "/dev/null/a.png")
    assert "'/dev/null/a.png' cannot be written: '/dev/null' is a file" in error


def test_ctrl_c_is_no_traceback(trained, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_simple_diffusion.models.Preset.load", interrupt)
    place, _ = trained
    result = run_command("generate", "--model", place / "run", cwd=tmp_path)
    assert result.returncode == 130
    assert result.stderr == "Interrupted.\n"
