"""Text that users wrote: files in any encoding, names on a terminal."""

import codecs
import unicodedata
import warnings

from keras_simple_diffusion.utils.errors import InputError

# The mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_JOINERS = "\u200c\u200d"  # Part of emoji and of several scripts.


def decode_text(content, where):
    """Decode the content of a text file.

    The encoding is that of the byte order mark, or else UTF-8. Any other text
    is read as Windows-1252, the usual code page of spreadsheets, with a
    warning.

    Args:
        content: bytes.
        where: string. Name of the file in messages.

    Returns:
        A string in Unicode's composed form (NFC).

    Raises:
        InputError: if the content is text in none of these encodings.
    """
    encodings = [name for mark, name in _MARKS if content.startswith(mark)]
    for encoding in encodings[:1] or ("utf-8", "cp1252"):
        if encoding in ("utf-8", "cp1252") and b"\0" in content:
            break
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "cp1252":
            warnings.warn(
                f"{where} is not UTF-8 and is read as Windows-1252. If letters "
                "come out wrong, save it as UTF-8.",
                stacklevel=2,
            )
        return plain_text(text)
    raise InputError(
        f"{where} is no text in UTF-8 or UTF-16 (with a byte order mark). Save "
        "it as UTF-8."
    )


def plain_text(text):
    """Return text in its composed form (NFC), and encodable as UTF-8.

    Args:
        text: string. JSON may escape a half of a character (a surrogate),
            which becomes `"?"`.
    """
    text = text.encode(errors="replace").decode()
    return unicodedata.normalize("NFC", text)


def printable(text):
    """Escape the characters that could change the terminal or its layout.

    Args:
        text: string, such as the name of a file.

    Returns:
        A string without control characters, line breaks, changes of the
        writing direction, or bytes that are no text.
    """
    return "".join(map(_escape, text))


def some_of(names, count=10):
    """Join the first of several names, escaped by `printable`."""
    text = ", ".join(map(printable, names[:count]))
    if len(names) > count:
        text += f" and {len(names) - count:,} more"
    return text


def _escape(character):
    if "\udc80" <= character <= "\udcff":  # A byte of a name that is no UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS:
        return character.encode("unicode_escape").decode()
    return character
