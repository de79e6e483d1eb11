"""ONNX Runtime Web is taken from the right package only."""

import json

import pytest

from keras_simple_diffusion.export import web_runtime
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def write_package(folder, version):
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"version": version}))
    for name in web_runtime._FILES:
        (folder / "dist" / name).write_bytes(name.encode())


def test_an_unpacked_package(tmp_path):
    write_package(tmp_path / "right", web_runtime.VERSION)
    files = web_runtime.find_runtime(tmp_path / "right")
    license = files.pop("LICENSE")
    assert b"Copyright (c) Microsoft Corporation" in license
    assert files == {name: name.encode() for name in web_runtime._FILES}


@pytest.mark.parametrize("kind", ["version", "files", "tarball", "missing"])
def test_other_packages_are_refused(tmp_path, kind):
    package = tmp_path / "package"
    if kind in ("version", "files"):
        write_package(package, "1.0.0" if kind == "version" else None)
    if kind == "files":
        content = {"version": web_runtime.VERSION}
        (package / "package.json").write_text(json.dumps(content))
        (package / "dist" / web_runtime._FILES[0]).unlink()
    if kind == "tarball":
        package.write_bytes(b"no package")
    message = "no package" if kind == "missing" else "is not the package"
    with pytest.raises(InputError, match=message):
        web_runtime.find_runtime(package)


def test_a_damaged_download_is_removed(tmp_path, monkeypatch):
    served = tmp_path / "served.tgz"
    served.write_bytes(b"damaged")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(web_runtime, "_URL", served.as_uri())
    with pytest.raises(InputError, match="is damaged"):
        web_runtime.find_runtime()
    assert list((tmp_path / "cache").rglob("*.tgz")) == []
    monkeypatch.setattr(web_runtime, "_URL", f"{served.as_uri()}.other")
    with pytest.raises(InputError, match="npm pack onnxruntime-web"):
        web_runtime.find_runtime()
