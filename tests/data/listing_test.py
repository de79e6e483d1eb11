import json
import zipfile

import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.folders import list_images
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def write_lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows))


def test_captions_of_metadata(tmp_path, write_images):
    write_images(tmp_path, "train/a.png", "train/b/c.png", "test/d.png")
    write_lines(
        tmp_path / "train" / "metadata.jsonl",
        {"file_name": "a.png", "text": "a cat", "license": "none"},
        {"file_name": "./b/c.png", "text": ["a dog", "two dogs"]},
        {"file_name": "b/c.png", "text": "dogs"},
        {"file_name": "gone.png", "text": "nothing"},
    )
    (tmp_path / "test" / "metadata.csv").write_text(
        '\ufefffile_name,text\nd.png,"one, or ""two"" cats"\n'
    )
    with pytest.raises(InputError, match="inside and outside of class"):
        list_images(tmp_path)
    (tmp_path / "train" / "b" / "c.png").rename(tmp_path / "train" / "c.png")
    write_lines(
        tmp_path / "train" / "metadata.jsonl",
        {"file_name": "a.png", "text": "a cat", "license": "none"},
        {"file_name": "./c.png", "text": ["a dog", "two dogs"]},
        {"file_name": "c.png", "text": "dogs"},
        {"file_name": "gone.png", "text": "nothing"},
    )
    listing = list_images(tmp_path)
    assert listing.names == ["train/a.png", "train/c.png"]
    assert listing.captions == [["a cat"], ["a dog", "two dogs", "dogs"]]
    assert listing.labels is None and listing.class_names is None
    listing = list_images(tmp_path, "test")
    assert listing.captions == [['one, or "two" cats']]
    # The same from a zip, and with the metadata outside of the split.
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("a", "c"):
            file.write(tmp_path / "train" / f"{name}.png", f"train/{name}.png")
        line = {"file_name": "train/a.png", "text": "a cat"}
        file.writestr("metadata.jsonl", json.dumps(line))
    with pytest.warns(UserWarning, match="1 of 2 .* no caption .*train/c.png"):
        listing = list_images(path)
    assert listing.captions == [["a cat"]]


def test_captions_beside_classes(tmp_path, write_images):
    write_images(tmp_path, "cat/1.png", "dog/1.png")
    rows = [
        {"file_name": f"{n}/1.png", "text": f"a {n}"} for n in ("cat", "dog")
    ]
    write_lines(tmp_path / "metadata.jsonl", *rows)
    source = ksd.data.open_data(tmp_path, 8)
    assert source.class_names == ["cat", "dog"]
    assert source[1]["labels"] == 1 and source[1]["captions"] == "a dog"


def test_bad_metadata(tmp_path, write_images):
    write_images(tmp_path, "1.png")
    metadata = tmp_path / "metadata.jsonl"
    metadata.write_text('{"file_name": "1.png", "text": "a"}\n{"file_name"')
    with pytest.raises(InputError, match="Line 2 of 'metadata.jsonl' .*JSON"):
        list_images(tmp_path)
    metadata.write_text('\n{"file": "1.png"}')
    with pytest.raises(InputError, match="no `file_name` in line 2"):
        list_images(tmp_path)
    metadata.write_text('{"file_name": "2.png", "text": "a"}')
    with pytest.raises(InputError, match="for none of its 1 images.*'2.png'"):
        list_images(tmp_path)
    # Metadata of something else.
    metadata.write_text('{"file_name": "1.png", "licence": "none"}')
    assert list_images(tmp_path).captions is None
    metadata.unlink()
    (tmp_path / "metadata.csv").write_text('file_name,text\n1.png,"open')
    with pytest.raises(InputError, match="of 'metadata.csv' .* is no CSV"):
        list_images(tmp_path)


def test_real_captions(shared_data):
    listing = list_images(shared_data / "coco_mini_captions_256.zip")
    assert len(listing.names) == 80
    assert {len(captions) for captions in listing.captions} == {5}


def test_fingerprint_tells_changes(folder, tmp_path):
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as file:
        for each in folder.rglob("*.*"):
            file.write(each, each.relative_to(folder))
    first = list_images(folder).fingerprint
    assert list_images(folder).fingerprint == first
    assert list_images(path).fingerprint == first
    assert list_images(folder, "test").fingerprint != first
    image = folder / "train" / "cat" / "0.png"
    content = image.read_bytes()
    image.write_bytes(content + b"longer")
    assert list_images(folder).fingerprint != first
    image.write_bytes(content)
    assert list_images(folder).fingerprint == first
    image.rename(image.with_name("new.png"))
    assert list_images(folder).fingerprint != first
