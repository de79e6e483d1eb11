import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data import sources
from keras_simple_diffusion.data.sources import DecodedSource
from keras_simple_diffusion.data.sources import keep_decoded

pytestmark = pytest.mark.any_backend


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), "uint8")).save(path)
    return tmp_path


def test_decodes_each_image_once(folder):
    source = ksd.data.open_data(folder, 8)
    kept = keep_decoded(source)
    assert isinstance(kept, DecodedSource) and len(kept) == 3
    first = [source[i] for i in range(3)]
    kept.example(1)["images"] = None  # The caller's own.
    for index in range(3):
        kept[index]
    for path in folder.rglob("*.png"):
        path.unlink()
    for index in range(3):
        np.testing.assert_array_equal(
            kept[index]["images"], first[index]["images"]
        )
        assert kept[index]["labels"] == first[index]["labels"]
    assert kept.class_names == source.class_names
    assert kept.fingerprint == source.fingerprint


def test_keeps_nothing_that_changes_or_is_large(folder, monkeypatch):
    source = ksd.data.open_data(folder, 8, crop="random")
    assert keep_decoded(source) is source
    source = ksd.data.open_data(folder, 8)
    monkeypatch.setattr(sources, "_MAX_BYTES", 3 * 8 * 8 * 3 - 1)
    assert keep_decoded(source) is source
    monkeypatch.undo()
    (folder / "metadata.jsonl").write_text(
        "".join(
            f'{{"file_name": "{name}", "text": "one"}}\n'
            for name in ("a/1.png", "a/2.png", "b/3.png")
        )
    )
    source = ksd.data.open_data(folder, 8)
    assert source.captions() is not None and keep_decoded(source) is source
