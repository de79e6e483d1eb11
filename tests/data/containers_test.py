import os
import pickle
import zipfile

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data import containers
from keras_simple_diffusion.data.containers import is_hidden
from keras_simple_diffusion.data.containers import open_container
from keras_simple_diffusion.data.containers import plain_path
from keras_simple_diffusion.data.containers import read_file
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "name, plain",
    [
        ("a/b.png", "a/b.png"),
        ("a\\b\\c.png", "a/b/c.png"),
        ("./a//b/./c.png", "a/b/c.png"),
        ("a/x/../b.png", "a/b.png"),
        ("/a/b.png", "a/b.png"),
        ("C:\\a\\b.png", "a/b.png"),
        ("\\\\server\\share\\b.png", "server/share/b.png"),
        ("cafe\u0301/1.png", "caf\u00e9/1.png"),
        ("..a/1.png", "..a/1.png"),
        ("../b.png", None),
        ("a/../../b.png", None),
        ("..\\b.png", None),
        ("", None),
        (".", None),
        ("/", None),
    ],
)
def test_plain_paths(name, plain):
    assert plain_path(name) == plain
    assert plain is None or plain_path(plain) == plain


def test_what_servers_and_bins_leave():
    for name in (
        *("__MACOSX/a/._1.png", "a/@eaDir/1.png", "$RECYCLE.BIN/1.png"),
        *("a/.Trash-1000/1.png", "Thumbs.db", "a/Desktop.ini", "~$1.png"),
        *("lost+found/1.png", "System Volume Information/1.png", "#recycle/1"),
    ):
        assert is_hidden(name), name
    for name in ("a/1.png", "recycled/1.png", "#1/2.png", "a@b/1.png", "a.b/c"):
        assert not is_hidden(name), name


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo()
            info.filename, info.compress_type = name, method
            file.writestr(info, content)
    return path


def test_names_in_zips(tmp_path):
    members = {
        "photos\\cats\\0.png": b"a",
        "./photos/dogs/1.png": b"b",
        "photos//dogs/2.png": b"c",
        "../outside.png": b"d",
        "__MACOSX/photos/._0.png": b"e",
        "photos/dogs\\2.png": b"another",
        "photos/empty/": b"",
    }
    container = open_container(write_zip(tmp_path / "a.zip", members))
    assert container.sizes == {
        "photos/cats/0.png": 1,
        "photos/dogs/1.png": 1,
        "photos/dogs/2.png": 1,
    }
    assert container.folders == {
        *("photos", "photos/cats", "photos/dogs", "photos/empty")
    }
    assert set(container.left_out) == {
        *("../outside.png", "__MACOSX/photos/._0.png", "photos/dogs\\2.png")
    }
    copy = pickle.loads(pickle.dumps(container))
    contents = [copy.read(name) for name in sorted(copy.sizes)]
    assert contents == [b"a", b"b", b"c"]
    assert copy.head("photos/cats/0.png") == b"a"
    assert copy.stamp("photos/cats/0.png") == container.stamp(
        "photos/cats/0.png"
    )


def test_a_name_twice_in_a_zip(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1.png": b"first"})
    with pytest.warns(UserWarning, match="Duplicate name"):
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("1.png", b"second, which is the one that counts")
    container = open_container(path)
    assert container.left_out == {"1.png": "another file has the same name"}
    assert container.read("1.png").startswith(b"second")
    assert container.sizes["1.png"] == len(container.read("1.png"))


def test_damaged_zips(tmp_path):
    members = {f"{i}/\u732b.png": bytes(range(50)) for i in range(3)}
    content = write_zip(tmp_path / "a.zip", members).read_bytes()
    rng, refused, unread = np.random.default_rng(0), 0, 0
    for _ in range(300):
        damaged = bytearray(content)
        first = content.index(b"PK\1\2") if rng.random() < 0.7 else 0
        for place in rng.integers(first, len(content), rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        (tmp_path / "b.zip").write_bytes(damaged)
        try:
            container = open_container(tmp_path / "b.zip")
        except InputError as error:
            refused += "is not a readable zip file" in str(error)
            continue
        for name in container.sizes:
            container.head(name)
            try:
                assert container.read(name) == members[name]
            except UNREADABLE:
                unread += 1
    assert refused > 20 and unread > 20


def test_zips_of_macos_have_utf8_names(tmp_path):
    name = "caf\u00e9/1.png"
    path = write_zip(tmp_path / "a.zip", {name: b"a"})
    content = bytearray(path.read_bytes())
    # Clear the flag that says so, in both headers.
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + offset + 1] &= ~0x08
    path.write_bytes(content)
    container = open_container(path)
    assert list(container.sizes) == [name] and container.read(name) == b"a"


def test_folders_are_listed_once(tmp_path):
    root = tmp_path / "data"
    for name in ("cats", "dogs/old"):
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(b"abc")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").write_bytes(b"ab")
    links = {
        "cats/all": "..",
        "a_first": "cats",
        "dogs/old/up": str(tmp_path),
        "root": "/",
        "birds": str(tmp_path / "elsewhere"),
        "birds_again": str(tmp_path / "elsewhere"),
        "dogs/2.png": "old/1.png",
        "nowhere.png": "gone.png",
        "self": "self",
    }
    for link, target in links.items():
        os.symlink(target, root / link)
    os.mkfifo(root / "pipe.png")
    container = open_container(root)
    assert container.sizes == {
        "cats/1.png": 3,
        "dogs/old/1.png": 3,
        "dogs/2.png": 3,
        "birds/2.png": 2,
        "nowhere.png": 0,
        "self": 0,
    }
    listed = "a link to a folder that is listed"
    around = "a link to a folder around the data"
    assert container.left_out == {
        "a_first": listed,
        "birds_again": listed,
        "cats/all": around,
        "dogs/old/up": around,
        "root": around,
        "pipe.png": "not a regular file",
    }
    # A file may become a pipe later.
    (root / "cats" / "1.png").unlink()
    os.mkfifo(root / "cats" / "1.png")
    with pytest.raises(OSError, match="not a regular file"):
        container.read("cats/1.png")
    assert container.head("cats/1.png") == b""
    with pytest.raises(InputError, match="no folder or zip file"):
        open_container(root / "pipe.png")


def test_sizes_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "_MAX_BYTES", 1000)
    members = {"small.png": bytes(1000), "large.png": bytes(1001)}
    for name, content in members.items():
        (tmp_path / name).write_bytes(content)
    path = write_zip(tmp_path / "a.zip", members)
    for container in (open_container(path), open_container(tmp_path)):
        assert container.read("small.png") == bytes(1000)
        with pytest.raises(OSError, match="more than the 0 MiB"):
            container.read("large.png")


def test_a_zip_that_states_less_than_it_holds(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1.png": bytes(10**6)})
    content = path.read_bytes()
    stated = (10**6).to_bytes(4, "little")
    path.write_bytes(content.replace(stated, (100).to_bytes(4, "little")))
    container = open_container(path)
    assert container.sizes == {"1.png": 100}
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC"):
        container.read("1.png")


def test_other_compression_and_encryption(tmp_path, encode, image):
    path = tmp_path / "a.zip"
    write_zip(path, {"1.png": encode(image(0))}, zipfile.ZIP_LZMA)
    with pytest.raises(InputError, match="not compressed by deflate: 1.png"):
        ksd.data.open_data(path, 8)
    write_zip(path, {"1.png": encode(image(0))})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="encrypted: 1.png"):
        ksd.data.open_data(path, 8)


def test_files_that_are_gone(tmp_path, encode, image):
    os.symlink("gone.png", tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(encode(image(0)))
    source = ksd.data.open_data(tmp_path, 8)
    first = source.content_digest()
    (tmp_path / "2.png").unlink()
    assert source.content_digest() != first


def test_no_path_is_not_the_current_folder():
    with pytest.raises(InputError, match="no folder or zip file at ''"):
        open_container("")


def test_regular_files_only(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_file(tmp_path / "a") == b"abc"
    assert read_file(tmp_path / "a", 2) == b"ab"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(OSError):
            read_file(path)


def test_names_that_are_no_text(tmp_path, encode, image):
    name = os.fsencode(tmp_path) + b"/\xff\x1b[31m.png"
    with open(name, "wb") as file:
        file.write(encode(image(0)))
    source = ksd.data.open_data(tmp_path, 8)
    assert source[0]["images"].shape == (8, 8, 3)
    assert source.fingerprint and source.content_digest()
