import json
import zipfile

import numpy as np
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
    with pytest.warns(UserWarning, match="1 row of .*no image.*'gone.png'"):
        listing = list_images(tmp_path)
    assert listing.names == ["train/a.png", "train/c.png"]
    assert listing.captions == [["a cat"], ["a dog", "two dogs", "dogs"]]
    assert listing.labels is None and listing.class_names is None
    with pytest.warns(UserWarning, match="gone.png"):
        listing = list_images(tmp_path, "test")
    assert listing.captions == [['one, or "two" cats']]
    # The same from a zip, and with the metadata outside of the split.
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("a", "c"):
            file.write(tmp_path / "train" / f"{name}.png", f"train/{name}.png")
        line = {"file_name": "train/a.png", "text": "a cat"}
        file.writestr("metadata.jsonl", json.dumps(line))
    with pytest.warns(UserWarning, match="without a caption: train/c.png"):
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
    with pytest.raises(InputError, match="none of the 1 images.*'2.png'"):
        list_images(tmp_path)
    metadata.write_text('{"file_name": "1.png", "licence": "none"}')
    with pytest.warns(UserWarning, match="columns are file_name, licence"):
        assert list_images(tmp_path).captions is None
    metadata.write_text('{"file_name": "1.png", "text": {"en": "a"}}')
    with pytest.raises(InputError, match="line 1 of .* neither text nor"):
        list_images(tmp_path)
    metadata.write_text('["1.png", "a"]')
    with pytest.raises(InputError, match="no JSON object"):
        list_images(tmp_path)
    metadata.unlink()
    (tmp_path / "metadata.csv").write_text('file_name,text\n1.png,"open')
    with pytest.raises(InputError, match="of 'metadata.csv' .* is no CSV"):
        list_images(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text\n1.png,a,b")
    with pytest.raises(InputError, match="more cells.* Quote texts"):
        list_images(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_damaged_metadata(tmp_path, write_images):
    write_images(tmp_path, *(f"{i}.png" for i in range(3)))
    rows = [
        {"file_name": f"{i}.png", "text": ["a caf\u00e9", "two"], "id": i}
        for i in range(3)
    ]
    write_lines(tmp_path / "metadata.jsonl", *rows)
    csv = 'file_name;text\n0.png;"a; b"\n1.png;\n2.png;c\n'
    (tmp_path / "metadata.csv").write_text(csv)
    rng, refused = np.random.default_rng(0), 0
    for name in ("metadata.jsonl", "metadata.csv"):
        content = (tmp_path / name).read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            for place in rng.integers(0, len(content), rng.integers(1, 5)):
                damaged[place] = rng.integers(256)
            (tmp_path / name).write_bytes(damaged)
            try:
                assert len(list_images(tmp_path).names)
            except InputError:
                refused += 1
        (tmp_path / name).write_bytes(content)
    assert 20 < refused < 180
    for line in ("[" * 10**5, "1" * 10**4, '{"file_name": "0.png", "text": 1e'):
        (tmp_path / "metadata.jsonl").write_text(line)
        with pytest.raises(InputError, match="Line 1 .* is no JSON"):
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


def caption_of(folder):
    (captions,) = list_images(folder).captions
    return captions


@pytest.mark.parametrize("key", ["text", "Caption ", "PROMPT", "label"])
@pytest.mark.parametrize("name", ["file_name", "image_file_name"])
def test_columns(key, name, tmp_path, write_images):
    write_images(tmp_path, "1.png")
    write_lines(tmp_path / "metadata.jsonl", {name: "1.png", key: "a cat"})
    assert caption_of(tmp_path) == ["a cat"]
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text(f"{name},{key}\n1.png,a cat\n")
    assert caption_of(tmp_path) == ["a cat"]


def test_values(tmp_path, write_images):
    write_images(tmp_path, "1.png")
    for text, expected in (
        (["a", "", None, 3], ["a", "3"]),
        (2.5, ["2.5"]),
        ("one\u2028two\x85three", ["one\u2028two\x85three"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("half \ud83d", ["half ?"]),  # A surrogate, escaped in JSON.
    ):
        row = {"file_name": "1.png", "text": text, "caption": "not this"}
        for escaped in (True, False):
            line = json.dumps(row, ensure_ascii=escaped) + "\n"
            content = line.encode(errors="replace")
            (tmp_path / "metadata.jsonl").write_bytes(content)
            assert caption_of(tmp_path) == expected
    # Numbers of classes are no captions; neither is nothing.
    for key, value, what in (
        ("label", 3, "Its column `label` holds only numbers"),
        ("text", " ", "Its column `text` holds no text"),
        ("tags", "a", "Its columns are file_name, tags"),
    ):
        row = {"file_name": "1.png", key: value}
        write_lines(tmp_path / "metadata.jsonl", row)
        with pytest.warns(UserWarning, match=f"no captions.*{what}"):
            assert list_images(tmp_path).captions is None
    (tmp_path / "metadata.jsonl").write_text("\n")
    with pytest.warns(UserWarning, match="It has no rows"):
        assert list_images(tmp_path).captions is None


def test_names_in_metadata(tmp_path, write_images):
    write_images(tmp_path, "train/a/1.png", "train/b/2.png")
    names = ["a\\1.png", ".//b/../b/2.png"]
    names += [str(tmp_path / "train" / "b" / "2.png")]
    rows = [{"file_name": n, "text": n[-5]} for n in names]
    write_lines(tmp_path / "train" / "metadata.jsonl", *rows)
    assert list_images(tmp_path).captions == [["1"], ["2", "2"]]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_csv_of_spreadsheets(separator, encoding, tmp_path, write_images):
    write_images(tmp_path, "1.png")
    lines = [["file_name", "text"], ["1.png", "caf\u00e9"]]
    text = "\r\n".join(map(separator.join, lines))
    (tmp_path / "metadata.csv").write_bytes(text.encode(encoding))
    if encoding == "cp1252":
        with pytest.warns(UserWarning, match="'metadata.csv' .*Windows-1252"):
            assert caption_of(tmp_path) == ["caf\u00e9"]
    else:
        assert caption_of(tmp_path) == ["caf\u00e9"]
    text = f"sep={separator}\r\n{text}"
    (tmp_path / "metadata.csv").write_bytes(text.encode("utf-8"))
    assert caption_of(tmp_path) == ["caf\u00e9"]


def test_parquet(tmp_path, write_images):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_images(tmp_path, "1.png")
    path = tmp_path / "metadata.parquet"
    table = {"file_name": ["1.png"], "Caption": [["a", "b"]], "id": [[1, 2]]}
    parquet.write_table(pyarrow.table(table), path)
    assert caption_of(tmp_path) == ["a", "b"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="is no Parquet file"):
        list_images(tmp_path)


def test_text_files_beside_images(tmp_path, write_images):
    write_images(tmp_path, "a/1.png", "a/2.png", "a/3.png")
    (tmp_path / "README.txt").write_text("not a caption")
    (tmp_path / "a" / "1.txt").write_text("a cat\n\n two cats \n")
    (tmp_path / "a" / "2.caption").write_text("a dog")
    with pytest.warns(UserWarning, match="without a caption: a/3.png"):
        listing = list_images(tmp_path)
    assert listing.captions == [["a cat", "two cats"], ["a dog"]]
    assert listing.left_out["not an image"] == ["README.txt"]
    # Boxes of objects, as detectors have them.
    for i in (1, 2, 3):
        (tmp_path / "a" / f"{i}.txt").write_text("0 0.5 0.5 0.25 1e-1\n")
    (tmp_path / "a" / "2.caption").unlink()
    with pytest.warns(
        UserWarning, match="3 are left out, .*without words: a/1"
    ):
        assert list_images(tmp_path).captions is None


def test_splits_in_other_spellings(tmp_path, write_images):
    write_images(tmp_path, "Train/a/1.png", "Train/b/2.png", "HELD-OUT/b/3.png")
    assert list_images(tmp_path).class_names == ["a", "b"]
    assert list_images(tmp_path, "test").names == ["HELD-OUT/b/3.png"]
    write_images(tmp_path, "preview.png")
    with pytest.warns(UserWarning, match="beside the folders.*: preview.png"):
        assert len(list_images(tmp_path).names) == 2
    (tmp_path / "preview.png").unlink()
    write_images(tmp_path, "HELD-OUT/stray.png")
    with pytest.raises(InputError, match="both .* outside HELD-OUT/stray.png"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    "names, message",
    [
        (["train/1.png", "extra/1.png"], "Move 'extra' away .* rename 'train'"),
        (["train2014/1.png", "train2017/1.png"], "several splits to train on"),
        (["cat/train/1.png", "cat/val/2.png", "dog/3.png"], "inside of 'cat'"),
        (["x/d/train/1.png", "x/d/test/2.png", "y/3.png"], "inside of 'x/d'"),
    ],
)
def test_unclear_splits(names, message, tmp_path, write_images):
    write_images(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        list_images(tmp_path)


def test_all_that_is_left_out(tmp_path, write_images):
    write_images(tmp_path, "cat/1.png", "cat/.2.png", "@eaDir/3.png")
    write_images(tmp_path, "dog/raw.nef", "dog/scan.tga", "bird/x")
    (tmp_path / "bird" / "x").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "notes.md").write_text("notes")
    (tmp_path / "cat" / "blob").write_bytes(b"blob")
    with pytest.warns(UserWarning) as caught:
        listing = list_images(tmp_path)
    (message,) = (str(each.message) for each in caught)
    for text in (
        "of the format .nef, which is not read: dog/raw.nef",
        "of the format .tga, which is not read: dog/scan.tga",
        "of the format HEIC, which is not read: bird/x",
        "a class without images: bird, dog, empty",
    ):
        assert text in message
    assert listing.class_names == ["cat"] and listing.names == ["cat/1.png"]
    assert listing.left_out["not an image"] == ["cat/blob", "cat/notes.md"]
    hidden = listing.left_out["hidden, or of the system"]
    assert sorted(hidden) == ["@eaDir", "cat/.2.png"]
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(InputError, match="holds no images.*1 is left out.*nef"):
        list_images(tmp_path)


def test_images_without_or_with_other_suffixes(tmp_path, encode, image):
    suffixes = {"jpeg": "jfif", "jpeg2000": "jp2", "avif": "AVIF", "webp": ""}
    suffixes |= {"tiff": "data", "png": "apng", "bmp": "orig", "gif": "x"}
    for format, suffix in suffixes.items():
        name = f"{format}.{suffix}".rstrip(".")
        (tmp_path / name).write_bytes(encode(image(0), format))
    source = ksd.data.open_data(tmp_path, 8)
    assert len(source) == len(suffixes)
    for index in range(len(source)):
        assert source[index]["images"].shape == (8, 8, 3)


@pytest.mark.parametrize("name", ["a/1.png.txt", "texts/1.txt", "captions.txt"])
def test_texts_in_other_places_are_told(tmp_path, write_images, name):
    write_images(tmp_path, "a/1.png", "a/2.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("a cat")
    with pytest.warns(UserWarning, match=f"not used as a caption.*{name}"):
        assert list_images(tmp_path).captions is None


def test_an_empty_column_hides_no_caption(tmp_path, write_images):
    write_images(tmp_path, "1.png")
    row = {"file_name": "1.png", "text": None, "caption": "a cat"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    assert list_images(tmp_path).captions == [["a cat"]]
