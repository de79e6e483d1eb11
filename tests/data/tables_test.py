import json
import pickle

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data import tables
from keras_simple_diffusion.utils.errors import InputError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.any_backend


@pytest.fixture
def rows(encode, image):
    """A function that makes rows as `datasets` has them."""

    def make(numbers):
        return {
            "id": [f"no. {i}" for i in numbers],
            "image": [
                {"bytes": encode(image(i)), "path": f"{i}.png"} for i in numbers
            ],
            "label": [i % 2 for i in numbers],
            "text": [f"caption {i}" for i in numbers],
        }

    return make


def table_of(columns, class_names=("cat", "dog")):
    """A table with the features that `datasets` notes in its schema."""
    features = {name: {"_type": "Value"} for name in columns}
    features["image"] = {"_type": "Image"}
    if class_names:
        names = list(class_names)
        features["label"] = {"_type": "ClassLabel", "names": names}
    noted = json.dumps({"info": {"features": features}})
    return pa.table(columns).replace_schema_metadata({"huggingface": noted})


def write_arrow(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file:
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)


def save_to_disk(folder, table):
    """The files of `datasets.Dataset.save_to_disk`, in two shards."""
    names = [f"data-{i:05}-of-00002.arrow" for i in range(2)]
    half = table.num_rows // 2
    write_arrow(folder / names[0], table.slice(0, half))
    write_arrow(folder / names[1], table.slice(half))
    files = [{"filename": name} for name in names]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    (folder / "dataset_info.json").write_text("{}")


@pytest.fixture
def files(tmp_path, rows):
    """The same images as a folder: 9 with two classes, and captions."""
    columns = rows(range(9))
    lines = []
    for i in range(9):
        name = f"{('cat', 'dog')[i % 2]}/{i}.png"
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(columns["image"][i]["bytes"])
        line = {"file_name": name, "text": columns["text"][i]}
        lines.append(json.dumps(line))
    (tmp_path / "files" / "metadata.jsonl").write_text("\n".join(lines))
    return ksd.data.open_data(tmp_path / "files", 8)


def assert_same_images(source, files):
    """Check the images by their captions; a folder sorts them by class."""
    expected = {each["captions"]: each for each in map(files.example, range(9))}
    assert len(source) == 9 and source.class_names == ["cat", "dog"]
    for i in range(9):
        assert source[i]["captions"] == f"caption {i}"
        for key, value in expected[f"caption {i}"].items():
            np.testing.assert_array_equal(source[i][key], value)


@pytest.mark.parametrize("kind", ["parquet", "shards", "saved", "split"])
def test_tables(kind, tmp_path, rows, files):
    place = tmp_path / "place"
    place.mkdir()
    table = table_of(rows(range(9)))
    if kind == "parquet":
        place = place / "photos.parquet"
        parquet.write_table(table, place, row_group_size=2)
    elif kind == "shards":
        (place / "data").mkdir()
        for i in range(3):
            path = place / "data" / f"all-{i:05}-of-00003.parquet"
            parquet.write_table(table.slice(3 * i, 3), path)
    elif kind == "saved":
        save_to_disk(place, table)
    else:
        save_to_disk(place / "train", table)
        save_to_disk(place / "test", table_of(rows([7, 9])))
        names = json.dumps({"splits": ["train", "test"]})
        (place / "dataset_dict.json").write_text(names)
    sources = ksd.data.open_splits(place, 8)
    assert_same_images(sources["train"], files)
    assert_same_images(pickle.loads(pickle.dumps(sources["train"])), files)
    if kind == "split":
        assert [sources["test"][i]["labels"] for i in range(2)] == [1, 1]
        assert sources["test"][1]["captions"] == "caption 9"
    else:
        assert list(sources) == ["train"]


def test_equal_batches(tmp_path, rows):
    columns = rows(range(9))
    del columns["text"]
    parquet.write_table(
        table_of(columns), tmp_path / "a.parquet", row_group_size=4
    )
    save_to_disk(tmp_path / "saved", table_of(columns))
    (tmp_path / "files").mkdir()
    for i in range(9):
        path = tmp_path / "files" / f"{i}.png"
        path.write_bytes(columns["image"][i]["bytes"])
    found = []
    for name in ("files", "a.parquet", "saved"):
        source = ksd.data.open_data(tmp_path / name, 8, crop="random")
        batches = ksd.data.training_batches(
            source, 4, flip=True, start_step=3, keys=("images",)
        )
        iterator = iter(batches)
        found.append([next(iterator)["images"] for _ in range(3)])
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_split_by_name_and_packing(tmp_path, rows, files):
    for name, numbers in (("train", range(9)), ("test", [3, 4])):
        path = tmp_path / "t" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(table_of(rows(numbers)), path)
    packed = tmp_path / "packed.array_record"
    assert ksd.data.pack(tmp_path / "t", packed) == (11, {})
    sources = ksd.data.open_splits(packed, 8)
    assert_same_images(sources["train"], files)
    assert len(sources["test"]) == 2


def test_splits_beside_a_file_of_none(tmp_path, rows):
    for i, split in enumerate(("train", "test", "extra")):
        name = f"{split}-00000-of-00001.parquet"
        parquet.write_table(table_of(rows([i])), tmp_path / name)
    for path in (tmp_path, tmp_path / "*.parquet"):
        with pytest.raises(
            InputError, match="extra-0.*' names no split.* 'test-0.* held out"
        ):
            ksd.data.open_data(path, 8)
    (tmp_path / name).unlink()
    assert len(ksd.data.open_data(tmp_path, 8)) == 1


def test_splits_by_folder(tmp_path, rows):
    for split, numbers in (("train", [1, 2]), ("test", [3])):
        path = tmp_path / split / "0000.parquet"
        path.parent.mkdir()
        parquet.write_table(table_of(rows(numbers)), path)
    sources = ksd.data.open_splits(tmp_path / "*" / "0000.parquet", 8)
    assert sources["train"].captions() == ["caption 1", "caption 2"]
    assert sources["test"].captions() == ["caption 3"]


def test_equal_names_of_files_in_two_splits(tmp_path, rows, files):
    saved, packed = tmp_path / "saved", tmp_path / "packed.array_record"
    columns = rows(range(9))
    held_out = rows([9, 11])
    held_out["image"][0]["bytes"] = columns["image"][0]["bytes"] = b"no image"
    save_to_disk(saved / "train", table_of(columns))
    save_to_disk(saved / "test", table_of(held_out))
    names = json.dumps({"splits": ["train", "test"]})
    (saved / "dataset_dict.json").write_text(names)
    count, broken = ksd.data.pack(saved, packed)
    first = "data-00000-of-00002.arrow[0]"
    assert count == 9 and list(broken) == [f"train/{first}", f"test/{first}"]
    sources = ksd.data.open_splits(packed, 8)
    expected = ksd.data.open_splits(saved, 8)
    for split, numbers in (("train", range(1, 9)), ("test", [1])):
        assert len(sources[split]) == len(numbers)
        for i, number in enumerate(numbers):
            assert sources[split].name(i) == expected[split].name(number)
            example = sources[split][i]
            for key, value in expected[split][number].items():
                np.testing.assert_array_equal(example[key], value)


def test_equal_names_of_files_in_two_folders(tmp_path, rows):
    for i, name in enumerate("ab"):
        path = tmp_path / name / "photos.parquet"
        path.parent.mkdir()
        parquet.write_table(table_of(rows([2 * i, 2 * i + 1])), path)
    source = ksd.data.open_data(tmp_path / "*" / "photos.parquet", 8)
    texts = [source[i]["captions"] for i in range(4)]
    assert texts == [f"caption {i}" for i in range(4)]
    assert source.name(2) == "b/photos.parquet[0]"


def test_columns_without_features(tmp_path, encode, image):
    images = [encode(image(i)) for i in range(3)]
    path = tmp_path / "a.parquet"
    for label, names, labels in (
        ([2, 0, 2], ["0", "1", "2"], [2, 0, 2]),
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
    ):
        parquet.write_table(pa.table({"jpg": images, "label": label}), path)
        source = ksd.data.open_data(path, 8)
        assert source.class_names == names
        assert [source[i]["labels"] for i in range(3)] == labels
        assert source.captions() is None
    texts = [["a", "b"], ["c"], ["d"]]
    parquet.write_table(pa.table({"jpg": images, "captions": texts}), path)
    source = ksd.data.open_data(path, 8)
    assert source.class_names is None
    assert source.captions() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "column, values, message",
    [
        ("labels", [[0], [1, 2]], "'labels' of .* no single class .* list<"),
        ("label", [{"a": 1}] * 2, "no single class of each .*, but a struct"),
        ("label", [1, -2], r"a.parquet\[1\] of .* class -2, of 2 classes that"),
        ("label", [-3, -2], "class -3, of 0 classes"),
        ("label", [0, 2**40], "holds 1099511627776, and classes are numbered"),
        ("label", [0.0, float("nan")], r"without a class, such as a.parq.*\[1"),
    ],
)
def test_columns_that_hold_no_class(
    column, values, message, tmp_path, encode, image
):
    path = tmp_path / "a.parquet"
    images = [encode(image(i)) for i in range(2)]
    parquet.write_table(pa.table({"jpg": images, column: values}), path)
    with pytest.raises(InputError, match=message):
        ksd.data.open_data(path, 8)


def test_a_split_without_classes(tmp_path, encode, image):
    columns = {"jpg": [encode(image(i)) for i in range(2)], "label": ["b", "a"]}
    parquet.write_table(pa.table(columns), tmp_path / "train.parquet")
    del columns["label"]
    parquet.write_table(pa.table(columns), tmp_path / "test.parquet")
    source = ksd.data.open_data(tmp_path, 8)
    assert source.class_names == ["a", "b"] and source[0]["labels"] == 1
    assert ksd.data.open_data(tmp_path, 8, "test").class_names is None


def test_groups_are_dropped_and_read_again(tmp_path, rows, files, monkeypatch):
    path = tmp_path / "a.parquet"
    parquet.write_table(table_of(rows(range(9))), path, row_group_size=1)
    monkeypatch.setattr(tables, "_MAX_KEPT", 5000)
    source = ksd.data.open_data(path, 8)
    expected = [source[i]["images"] for i in range(9)]
    kept = source.listing.container._groups._kept
    assert 1 <= len(kept) < 9
    with pytest.warns(
        UserWarning, match="do not fit into memory.* `keras-simp"
    ):
        np.testing.assert_array_equal(source[0]["images"], expected[0])


def test_tables_that_cannot_be_read(tmp_path, rows, encode, image):
    path = tmp_path / "a.parquet"
    columns = rows(range(4))
    for content in (b"", b"PAR1" + bytes(99)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="a.parquet' cannot be read: "):
            ksd.data.open_data(path, 8)
    parquet.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(InputError, match="no column of images.* has: text"):
        ksd.data.open_data(path, 8)
    for label in (None, -1):
        parquet.write_table(
            table_of({**columns, "label": [0, 1, label, 0]}), path
        )
        with pytest.raises(InputError, match=r"class, such as a.parquet\[2\]"):
            ksd.data.open_data(path, 8)
    columns["image"][1]["bytes"] = None
    columns["image"][2]["bytes"] = b"no image"
    parquet.write_table(table_of(columns), path)
    source = ksd.data.open_data(path, 8)
    with pytest.warns(UserWarning) as caught:
        assert source[1]["captions"] == "caption 3"
    text = [str(each.message) for each in caught]
    assert r"'a.parquet[1]' of" in text[0] and "no bytes of it" in text[0]
    assert r"'a.parquet[2]' of" in text[1] and "no image" in text[1]
    path.unlink()
    with pytest.raises(InputError, match="The file '.*a.parquet' is gone"):
        pickle.loads(pickle.dumps(source))[0]
    save_to_disk(tmp_path / "saved", table_of(columns))
    for content, message in (("{", "is damaged"), ("[]", "has no '_data_fil")):
        (tmp_path / "saved" / "state.json").write_text(content)
        with pytest.raises(InputError, match=f"state.json' {message}"):
            ksd.data.open_data(tmp_path / "saved", 8)
