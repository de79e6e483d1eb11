"""Programs of JAX that are kept for the next command."""

import pytest

from tests.helpers.commands import run_process
from tests.helpers.models import make_model


@pytest.mark.any_backend(on="jax")
def test_commands_keep_compiled_programs(tmp_path, monkeypatch):
    # A command that ran in this process has set it.
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    make_model().save_to_preset(tmp_path / "model")

    def generate(name, **changes):
        words = ["--model", "model", "--labels", "1", "--steps", "1"]
        result = run_process(
            *("generate", *words, "--seed", "0", "--output", name),
            cwd=tmp_path,
            XDG_CACHE_HOME=str(tmp_path / "cache"),
            **changes,
        )
        assert result.returncode == 0, result.stderr
        return sorted((tmp_path / "cache").rglob("jit_*-cache"))

    assert not generate("off.png", JAX_ENABLE_COMPILATION_CACHE="0")
    kept = generate("first.png", JAX_ENABLE_COMPILATION_CACHE="1")
    assert kept
    assert kept == generate("second.png", JAX_ENABLE_COMPILATION_CACHE="1")
    images = [tmp_path / f"{name}.png" for name in ("off", "first", "second")]
    assert len({path.read_bytes() for path in images}) == 1
