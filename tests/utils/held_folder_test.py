"""Folders whose work is resumed, and files that are checked by digests."""

import json
import os
import subprocess
import sys

import pytest

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import begin_or_resume
from keras_simple_diffusion.utils.files import held_folder
from keras_simple_diffusion.utils.files import is_intact
from keras_simple_diffusion.utils.files import seal

pytestmark = pytest.mark.any_backend

SETTINGS = {"steps": 4, "model_content": "a1", "seed": None}


def hold(folder, resume=False, **changes):
    """Begin or resume, and return the settings."""
    settings = begin_or_resume(folder, {**SETTINGS, **changes}, resume)
    with held_folder(folder, settings, resume):
        pass
    return settings


def test_a_seed_is_kept(tmp_path):
    begun = hold(tmp_path / "out")
    assert begun["seed"] >= 0
    assert hold(tmp_path / "out", resume=True) == begun
    with pytest.raises(InputError, match="begun with seed=.* Received: seed=1"):
        hold(tmp_path / "out", resume=True, seed=1)


def test_what_has_changed_is_named(tmp_path):
    hold(tmp_path / "out")
    with pytest.raises(InputError, match="steps=4. Received: steps=5. Repeat"):
        hold(tmp_path / "out", resume=True, steps=5)
    with pytest.raises(InputError, match="The model has changed since .*out"):
        hold(tmp_path / "out", resume=True, model_content="b2")
    with pytest.raises(InputError, match="holds something already"):
        hold(tmp_path / "out")


def test_errors_leave_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        hold(tmp_path / "out", resume=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="holds something already"):
        hold(tmp_path / "photos")
    assert len(list(tmp_path.rglob("*"))) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\x00",
        b'{"seed": "1"}',
        b'{"seed": NaN}',
    ]
    + [b'{"steps": 4}', b"[" * 100_000, b'{"seed": [0]}'],
)
def test_damaged_settings_are_one_line(tmp_path, content):
    hold(tmp_path / "out")
    (tmp_path / "out" / "settings.json").write_bytes(content)
    with pytest.raises(InputError, match="settings.json' is damaged. Remove"):
        hold(tmp_path / "out", resume=True)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such locks")
def test_a_second_process_is_refused_with_the_first_ones_id(tmp_path):
    folder = tmp_path / "out"
    program = (
        "from keras_simple_diffusion.utils.files import held_folder\n"
        f"with held_folder({str(folder)!r}, {SETTINGS!r}, False):\n"
        "    print('held', flush=True)\n"
        "    input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        for resume in (False, True):
            with pytest.raises(InputError, match=f"process {process.pid} on"):
                begin_or_resume(folder, SETTINGS, resume)
    finally:
        process.kill()
        process.communicate()
    settings = json.loads((folder / "settings.json").read_text())
    settings["seed"] = 3
    (folder / "settings.json").write_text(json.dumps(settings))
    assert hold(folder, resume=True)["seed"] == 3


def test_a_folder_killed_before_its_settings_is_begun_again(tmp_path):
    draft = tmp_path / "out" / ".draft-settings.json-abc"
    draft.mkdir(parents=True)
    (draft / "settings.json").write_text("{")
    (tmp_path / "out" / ".lock").write_text("process 1 on elsewhere\n")
    hold(tmp_path / "out")
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert names == ["settings.json"]


def test_seals(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content" * 400_000)  # More than is read at once.
    assert not is_intact(path)
    seal(path, "key")
    whole = path.read_bytes()
    assert whole.startswith(b"content") and len(whole) == 7 * 400_000 + 32
    assert is_intact(path, "key")
    assert not is_intact(path, "other")
    for damaged in (
        whole[:-1],
        whole + b"0",
        b"C" + whole[1:],
        whole[:20],
        b"",
    ):
        path.write_bytes(damaged)
        assert not is_intact(path, "key")
    assert not is_intact(tmp_path, "key")
    assert not is_intact(tmp_path / "missing", "key")
