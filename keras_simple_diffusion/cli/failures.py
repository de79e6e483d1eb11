"""Errors of commands: one line each, in the words of the command line."""

import errno
import re

from keras_simple_diffusion.utils.errors import InputError

# Arguments of Python whose option has another name.
_OPTIONS = {
    "guidance_scale": "guidance",
    "negative_prompts": "negative_prompt",
    "num_resamples": "resamples",
    "num_steps": "steps",
    "prompts": "prompt",
}
# Each library reports a lack of memory in its own way.
_LACKS_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED|OOM when allocating|[Oo]ut of memory|can't allocate "
    "memory|Unable to allocate"
)
# Of PyTorch's Gloo and NCCL, about another process.
_LOST_CONNECTION = ("gloo/transport", "Connection closed by peer", "ncclRemote")


def explain(error, command=None):
    """Explain an error that the user can fix.

    Args:
        error: an exception.
        command: the `click.Command` that raised it, or `None`.

    Returns:
        A string, or `None` if the error is a fault of the program.
    """
    text = str(error)
    if isinstance(error, InputError):
        return _in_options(text, command)
    if isinstance(error, MemoryError) or _LACKS_MEMORY.search(text):
        reason = text.strip().partition("\n")[0][:200]
        return (
            f"There is too little memory ({reason or type(error).__name__}). "
            "Use smaller images, fewer images at once, or a smaller network."
        )
    if any(word in text for word in _LOST_CONNECTION):
        return (
            "Another process of the run has ended, or cannot be reached any "
            "more; its own message says why. Continue with --resume."
        )
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        reason = error.strerror or text.strip().partition("\n")[0]
        if error.filename is None:
            return f"A file cannot be read or written: {reason}"
        name = error.filename2 or error.filename
        return f"'{name}' cannot be read or written: {reason}"
    return None


def _in_options(text, command):
    """Name options of a command in place of arguments of Python."""
    names = {
        parameter.name: parameter.opts[0]
        for parameter in (command.params if command else ())
    }
    for argument, option in _OPTIONS.items():
        if option in names:
            names.setdefault(argument, names[option])
    if not names:
        return text
    text = re.sub(r" \(in Python `[^`]*`\)", "", text)
    either = "|".join(names)
    text = re.sub(rf"`({either})`", lambda m: f"`{names[m[1]]}`", text)
    return re.sub(rf"\b({either})=", lambda m: f"{names[m[1]]}=", text)
