import pytest

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import decode_text
from keras_simple_diffusion.utils.user_text import printable

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"]
)
def test_encodings(encoding):
    text = "caf\u00e9 \u732b"
    content = text.encode(encoding)
    if encoding == "utf-16-le":
        content = b"\xff\xfe" + content
    assert decode_text(content, "'a'") == text
    # The composed form of Unicode.
    assert decode_text("cafe\u0301".encode(encoding.removesuffix("-le")), "'a'")
    assert decode_text("e\u0301".encode(), "'a'") == "\u00e9"


def test_code_pages():
    with pytest.warns(UserWarning, match="'a.csv' is not UTF-8"):
        text = decode_text("\u201ccaf\u00e9\u201d".encode("cp1252"), "'a.csv'")
    assert text == "\u201ccaf\u00e9\u201d"
    for content in (
        b"\x81\x8d",  # Not defined in Windows-1252.
        "text".encode("utf-16-le"),  # Without its mark.
        b"\xff\xfea",  # Half a character.
    ):
        with pytest.raises(InputError, match="Save it as UTF-8"):
            decode_text(content, "'a.csv'")


def test_printable():
    for text in (
        "caf\u00e9",
        "\u732b \u3000",
        "\U0001f469\u200d\U0001f680",
        "",
    ):
        assert printable(text) == text
    for text, expected in (
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202egnp", "\\u202egnp"),
        ("a\u2028b\x85", "a\\u2028b\\x85"),
        (b"\xff.png".decode(errors="surrogateescape"), "\\xff.png"),
        ("\ud800", "\\ud800"),
    ):
        assert printable(text) == expected
        printable(text).encode()
