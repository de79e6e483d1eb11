"""Messages on the terminal, wrapped between words."""

import re
import shutil
import sys
import textwrap

_COMMAND = "keras-simple-diffusion "


def say(message):
    """Print a message, in a terminal with lines that are not wider than it.

    In a file or a pipe each line stays whole.

    Args:
        message: string of one or several lines, or an object that prints as
            one.
    """
    message = str(message)
    if sys.stdout is not None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        message = wrap(message, width)
    print(message, flush=True)


def wrap(message, width):
    """Wrap lines between words.

    Lines go on below their text, to the right of a label such as `"time  "`. A
    line with a command stays whole, so that it can be copied.

    Args:
        message: string.
        width: int. Number of columns.

    Returns:
        A string.
    """
    lines = []
    for line in message.split("\n"):
        if _COMMAND in line:
            lines.append(line)
            continue
        label = re.match(r"\S+ {2,}|\s*", line).group()
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=" " * len(label),
            drop_whitespace=True,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)
