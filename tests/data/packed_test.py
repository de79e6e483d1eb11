import json
import pickle
import shutil
import warnings

import numpy as np
import pytest
from array_record.python import array_record_module

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data import packing
from keras_simple_diffusion.data.formats import read_pixels
from keras_simple_diffusion.data.formats import write_pixels
from keras_simple_diffusion.data.inspection import examine
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command

pytestmark = pytest.mark.any_backend


def records_of(path):
    """All records of a file, read without this library."""
    reader = array_record_module.ArrayRecordReader(str(path))
    return reader.read_all()


def write_records(path, records):
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def assert_equal_sources(source, other):
    assert len(source) == len(other)
    assert source.class_names == other.class_names
    for index in range(len(source)):
        example, expected = source[index], other[index]
        assert example.keys() == expected.keys()
        for key in example:
            np.testing.assert_array_equal(example[key], expected[key])


def take(count, source, **options):
    options = {"flip": True, "keys": ("images", "labels"), **options}
    batches = iter(ksd.data.training_batches(source, 4, **options))
    return [next(batches) for _ in range(count)]


def assert_equal_batches(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


@pytest.fixture
def captioned(tmp_path, write_images):
    """Three images with one or two captions each."""
    write_images(tmp_path / "captioned", "1.png", "2.png", "3.png")
    lines = [
        {"file_name": f"{i}.png", "text": [f"no. {i}"] + ["more"] * (i == 2)}
        for i in (1, 2, 3)
    ]
    (tmp_path / "captioned" / "metadata.jsonl").write_text(
        "\n".join(map(json.dumps, lines))
    )
    return tmp_path / "captioned"


def test_files_as_they_are(folder, tmp_path):
    path = tmp_path / "out" / "pets.array_record"
    assert ksd.data.pack(folder, path) == (8, {})
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    for size, crop in ((8, "center"), ((12, 9), "random")):
        for split in ("train", "test"):
            options = dict(image_size=size, split=split, crop=crop)
            packed = ksd.data.open_data(path, **options)
            files = ksd.data.open_data(folder, **options)
            assert_equal_sources(packed, files)
            # A run on the folder goes on with the file.
            assert packed.fingerprint == files.fingerprint
            assert [packed.name(i) for i in range(len(packed))] == [
                files.name(i) for i in range(len(files))
            ]
    for start in (0, 3):
        options = {"start_step": start, "seed": 5}
        packed = ksd.data.open_data(path, 8, crop="random")
        files = ksd.data.open_data(folder, 8, crop="random")
        expected = take(3, files, **options)
        assert_equal_batches(take(3, packed, **options), expected)
    with pytest.raises(ksd.data.MissingSplitError, match="It has: train, test"):
        ksd.data.open_data(path, 8, "extra")


@pytest.mark.large
def test_any_number_of_workers(folder, tmp_path):
    path = tmp_path / "pets.array_record"
    ksd.data.pack(folder, path)
    source = ksd.data.open_data(path, 8, crop="random")
    expected = take(4, source)
    for start in (1, 2):
        found = take(2, source, start_step=start, num_workers=2)
        assert_equal_batches(found, expected[start : start + 2])


def test_the_records_are_the_files(folder, tmp_path):
    path = tmp_path / "pets.array_record"
    ksd.data.pack(folder, path)
    *files, index = records_of(path)
    names = [
        folder / split / name / f"{i}.png"
        for split, count in (("train", 3), ("test", 1))
        for name in ("cat", "dog")
        for i in range(count)
    ]
    assert files == [name.read_bytes() for name in names]
    assert json.loads(index)["class_names"] == ["cat", "dog"]


def test_captions(captioned, tmp_path):
    path = tmp_path / "texts.array_record"
    ksd.data.pack(captioned, path, image_size=8)
    packed, files = (ksd.data.open_data(p, 8) for p in (path, captioned))
    assert packed.captions() == files.captions()
    assert packed.captions() == ["no. 1", "no. 2", "more", "no. 3"]
    assert packed.annotations() == files.annotations()
    keys = ("images", "captions")
    expected = take(4, files, keys=keys)
    assert_equal_batches(take(4, packed, keys=keys), expected)


@pytest.mark.parametrize("encoding", [None, "pixels", "png", "jpeg"])
def test_images_of_one_size(folder, tmp_path, encode, image, encoding):
    (folder / "train" / "cat" / "0.png").write_bytes(encode(image(9, (30, 20))))
    path = tmp_path / "pets.array_record"
    ksd.data.pack(folder, path, image_size=(12, 16), encoding=encoding)
    packed = ksd.data.open_data(path, (12, 16))
    files = ksd.data.open_data(folder, (12, 16))
    if encoding == "jpeg":
        for i in range(6):
            error = np.float64(packed[i]["images"]) - files[i]["images"]
            assert 0 < np.abs(error).mean() < 5  # Of noise.
    else:
        assert_equal_sources(packed, files)
    kinds = {"png": "PNG", "jpeg": "JPEG"}
    facts = list(examine(packed))
    assert {each.format for each in facts} == {kinds.get(encoding, "NPY")}
    assert [each.mode for each in facts] == ["L"] + ["RGB"] * 5
    assert {each.size for each in facts} == {(16, 12)}
    assert not any(each.broken for each in facts)
    # Gray images stay exact in one channel, and all can be resized.
    gray, other = (
        ksd.data.open_data(p, (12, 16), num_channels=1) for p in (path, folder)
    )
    if encoding != "jpeg":
        np.testing.assert_array_equal(gray[0]["images"], other[0]["images"])
    assert ksd.data.open_data(path, 6)[3]["images"].shape == (6, 6, 3)


def test_arrays_are_packed_at_a_size(tmp_path):
    path = tmp_path / "digits.array_record"
    with pytest.raises(InputError, match="'digits' are arrays"):
        ksd.data.pack("digits", path)
    assert ksd.data.pack("digits", path, image_size=8) == (1797, {})
    for split, count in (("train", 1437), ("test", 360)):
        packed = ksd.data.open_data(path, 8, split, num_channels=1)
        digits = ksd.data.open_data("digits", 8, split)
        assert len(packed) == count
        assert packed.class_names == digits.class_names
        for i in (0, 100, count - 1):
            np.testing.assert_array_equal(
                packed[i]["images"], digits[i]["images"]
            )
            assert packed[i]["labels"] == digits[i]["labels"]


def test_several_files(folder, tmp_path):
    path = tmp_path / "pets.array_record"
    assert ksd.data.pack(folder, path, num_files=3) == (8, {})
    names = [f"pets.array_record-{i:05}-of-00003" for i in range(3)]
    assert sorted(p.name for p in tmp_path.glob("pets.*")) == names
    for name in (path, tmp_path / names[1]):
        for split in ("train", "test"):
            packed = ksd.data.open_data(name, 8, split)
            assert_equal_sources(packed, ksd.data.open_data(folder, 8, split))
    copy = pickle.loads(pickle.dumps(packed))
    assert_equal_sources(copy, packed)
    (tmp_path / names[1]).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="3 files .* 1 are missing.*-00001-of"):
        ksd.data.open_data(path, 8)
    # The same command writes what is missing, and nothing else.
    times = [(tmp_path / names[i]).stat().st_mtime_ns for i in (0, 2)]
    ksd.data.pack(folder, path, num_files=3)
    assert times == [(tmp_path / names[i]).stat().st_mtime_ns for i in (0, 2)]
    again = (tmp_path / names[1]).read_bytes()
    assert again == (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(InputError, match="holds something else already"):
        ksd.data.pack(folder, path, num_files=2)
    (tmp_path / names[1]).unlink()
    ksd.data.pack(folder / "train", tmp_path / "b.array_record", num_files=3)
    (tmp_path / "b.array_record-00001-of-00003").rename(tmp_path / names[1])
    with pytest.raises(InputError, match="00001-of-00003' was not packed toge"):
        ksd.data.open_data(path, 8)


def test_equal_names_in_two_splits(folder, tmp_path, encode, image):
    for number, name in enumerate(("cat", "dog")):
        held_out = folder / "test" / name / "0.png"
        held_out.write_bytes(encode(image(10 + number)))
    path = tmp_path / "pets.array_record"
    ksd.data.pack(folder, path)
    *files, index = records_of(path)
    index = json.loads(index)
    for columns in index["splits"].values():
        columns["names"] = [name.partition("/")[2] for name in columns["names"]]
    write_records(path, [*files, json.dumps(index).encode()])
    for split in ("train", "test"):
        packed = ksd.data.open_data(path, 8, split)
        assert_equal_sources(packed, ksd.data.open_data(folder, 8, split))


def test_an_interrupted_packing_goes_on(folder, tmp_path, monkeypatch):
    path = tmp_path / "pets.array_record"
    ksd.data.pack(folder, path, image_size=8)
    expected = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(packing, "_PER_PART", 2)
    encoded = []

    def encode(pixels):
        encoded.append(pixels)
        if len(encoded) == 6:
            raise KeyboardInterrupt
        return write_pixels(pixels)

    monkeypatch.setitem(packing.ENCODINGS, "pixels", encode)
    with pytest.raises(KeyboardInterrupt):
        ksd.data.pack(folder, path, image_size=8)
    assert not path.exists()
    num_parts = len(list(tmp_path.glob("pets.array_record.parts/*_record")))
    assert 1 <= num_parts <= 3
    encoded = ["begun"] * 6
    ksd.data.pack(folder, path, image_size=8)
    assert len(encoded) == 6 + 8 - 2 * num_parts
    assert path.read_bytes() == expected
    assert not list(tmp_path.glob("*.parts"))
    # What is complete is not packed again; what has changed is not mixed in.
    ksd.data.pack(folder, path, image_size=8)
    assert len(encoded) == 14 - 2 * num_parts
    shutil.copy(folder / "train/cat/1.png", folder / "train/cat/2.png")
    with pytest.raises(InputError, match="holds something else already"):
        ksd.data.pack(folder, path, image_size=8)


def test_unreadable_images_are_left_out(folder, tmp_path):
    (folder / "train" / "cat" / "1.png").write_bytes(b"not an image")
    path = tmp_path / "pets.array_record"
    count, broken = ksd.data.pack(folder, path)
    assert count == 7 and broken == {"train/cat/1.png": "it is no image"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = [ksd.data.open_data(path, 8)[i]["labels"] for i in range(5)]
    assert labels == [0, 0, 1, 1, 1]
    for each in folder.rglob("*.png"):
        each.write_bytes(b"")
    with pytest.raises(InputError, match="None of the 8 images can be read"):
        ksd.data.pack(folder, tmp_path / "b.array_record", num_files=3)
    assert not list(tmp_path.glob("b.array_record*"))


@pytest.mark.parametrize("first", [True, False])
def test_a_file_without_a_readable_image(tmp_path, write_images, first):
    folder = write_images(tmp_path / "photos", "1.png", "2.png", "3.png")
    name = "1.png" if first else "3.png"
    (folder / name).write_bytes(b"not an image")
    path = tmp_path / "photos.array_record"
    broken = {name: "it is no image"}
    assert ksd.data.pack(folder, path, num_files=3) == (2, broken)
    assert ksd.data.pack(folder, path, num_files=3) == (2, broken)
    (folder / name).unlink()
    packed = ksd.data.open_data(path, 8)
    assert_equal_sources(packed, ksd.data.open_data(folder, 8))


def test_mixtures(folder, tmp_path):
    path = tmp_path / "pets.array_record"
    other = tmp_path / "vehicles.array_record"
    with pytest.raises(InputError, match="weights, which packed images do not"):
        ksd.data.pack(f"mix:{folder}=1,vehicles=3", path)
    ksd.data.pack(folder, path)
    ksd.data.pack("vehicles", other)
    mixed = ksd.data.open_data(f"mix:{path}=1,{other}=3", 8)
    expected = ksd.data.open_data(f"mix:{folder}=1,vehicles=3", 8)
    assert mixed.mixture == expected.mixture == ([6, 620], [250, 750])
    assert_equal_batches(take(2, mixed), take(2, expected))
    # Without weights all images are packed, one data after another.
    both = tmp_path / "both.array_record"
    assert ksd.data.pack(f"mix:{path},{other}", both) == (8 + 917, {})


def test_damaged_files(folder, tmp_path):
    path = tmp_path / "pets.array_record"
    ksd.data.pack(folder, path)
    *files, index = records_of(path)
    whole = path.read_bytes()
    for content in (b"", b"garbage" * 99, whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="pets.array_record' is cut off"):
            ksd.data.open_data(path, 8)
    write_records(path, files)  # As other programs do.
    with pytest.raises(InputError, match="or not written by `pack`"):
        ksd.data.open_data(path, 8)
    write_records(path, [*files[1:], index])
    with pytest.raises(InputError, match="does not list its 7 images"):
        ksd.data.open_data(path, 8)
    for change in (
        {"splits": {}},
        {"splits": [1]},
        {"class_names": ["cat"]},
        {"splits": {"train": {"names": ["a"] * 8}}},
    ):
        changed = json.dumps({**json.loads(index), **change}).encode()
        write_records(path, [*files, changed])
        with pytest.raises(InputError, match="does not list its 8 images"):
            ksd.data.open_data(path, 8)
    # A single damaged record is named, and replaced by the next.
    start = whole.index(files[2]) + len(files[2]) // 2
    path.write_bytes(whole[:start] + b"damaged" + whole[start + 7 :])
    source = ksd.data.open_data(path, 8)
    with pytest.warns(UserWarning, match="'train/cat/2.png' of '.*pets.array_"):
        example = source[2]
    expected = ksd.data.open_data(folder, 8)[3]
    np.testing.assert_array_equal(example["images"], expected["images"])
    path.unlink()
    with pytest.raises(
        InputError, match="The file '.*pets.array_record' is go"
    ):
        pickle.loads(pickle.dumps(source))[0]


def test_pixels_are_checked():
    pixels = np.arange(24, dtype="uint8").reshape(2, 4, 3)
    content = write_pixels(pixels)
    np.testing.assert_array_equal(read_pixels(content), pixels)
    assert read_pixels(b"\xff\xd8\xff") is None
    for bad in (content[:-1], content + b"0", content[:20]):
        with pytest.raises(ValueError):
            read_pixels(bad)
    for array in (np.float32(pixels), pixels[0], pixels[..., :2]):
        with pytest.raises(ValueError, match="is not an image"):
            read_pixels(write_pixels(array))


def test_the_command(folder, tmp_path):
    (folder / "train" / "cat" / "1.png").write_bytes(b"not an image")
    result = run_command(
        *("pack", "--data", folder, "--output", "a.array_record"),
        cwd=tmp_path,
    )
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "1 of 8 images cannot be read and are left out: train/cat/1.png",
        "7 images are in a.array_record.",
        "Train: keras-simple-diffusion train --data a.array_record",
    ]
    shown = run_command(
        "inspect-data", "--data", "a.array_record", cwd=tmp_path
    )
    assert "7 images in 'a.array_record': 5 to train on, 2" in shown.stdout
    for words, message in (
        (("--output", "a.zip"), "a name such as photos.array_record"),
        (
            ("--output", "b.array_record", "--encoding", "png"),
            "set `--image-size` too",
        ),
    ):
        result = run_command("pack", "--data", folder, *words, cwd=tmp_path)
        assert message in error_line(result)
    result = run_command("train", "--data", "c.array_record", cwd=tmp_path)
    assert "There is no folder" in error_line(result)
