"""Files of named arrays, read without running code from them.

Arrays are views of the file on disk, so a large file takes memory only for the
arrays that are used.
"""

import argparse
import json
import math
import pickle
import warnings
import zipfile

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

# What reading a damaged file, or one with other content, may raise.
UNREADABLE = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    KeyError,
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    TypeError,
    AttributeError,
)
_HEADER_LIMIT = 100_000_000  # Bytes, as in the package safetensors.
_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16"}


def read_torch(path):
    """Read what `torch.save` wrote, if it is tensors and plain values.

    PyTorch reads nothing but these (`weights_only`), and the parsed command
    line that training scripts keep beside their weights.

    Args:
        path: path of the file.

    Returns:
        Its content, where tensors are NumPy arrays.

    Raises:
        InputError: if PyTorch is not installed. `UNREADABLE` lists what else
            may be raised.
    """
    try:
        import torch
    except ImportError:
        raise InputError(
            f"Reading '{path}' needs PyTorch: pip install torch"
        ) from None
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    with allowed, warnings.catch_warnings():
        # That the file was not written by `torch.save`.
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        content = torch.load(
            path,
            map_location="cpu",
            weights_only=True,
            mmap=zipfile.is_zipfile(path),
        )

    def convert(value):
        if isinstance(value, dict):
            return {key: convert(each) for key, each in value.items()}
        if not isinstance(value, torch.Tensor):
            return value
        if value.dtype == torch.bfloat16:
            return _as_bfloat16(value.detach().view(torch.uint16).numpy())
        return value.detach().numpy()

    return convert(content)


def read_safetensors(path):
    """Read a file of safetensors.

    Args:
        path: path of the file.

    Returns:
        A tuple of a dict of NumPy arrays, and a dict of strings, the metadata.

    Raises:
        InputError: if the file is damaged, or holds numbers of another type
            than floats. `UNREADABLE` lists what else may be raised.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER_LIMIT, size - 8):
            raise InputError(f"'{path}' is no file of safetensors.")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    data = np.memmap(path, "uint8", "r")[8 + length :]
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        values = data[start:end]
        if entry["dtype"] == "BF16":
            values = _as_bfloat16(values.view("uint16"))
        else:
            types = {code: dtype for dtype, code in _NAMES.items()}
            if entry["dtype"] not in types:
                raise InputError(
                    f"'{path}' holds numbers that are no floats: {name} of "
                    f"type {entry['dtype']}."
                )
            values = values.view(types[entry["dtype"]])
        if start < 0 or values.size != math.prod(entry["shape"]):
            raise InputError(f"'{path}' is damaged: {name} is incomplete.")
        arrays[name] = values.reshape(entry["shape"])
    return arrays, metadata


def write_safetensors(path, arrays, metadata):
    """Write a file of safetensors.

    Args:
        path: path of the new file.
        arrays: dict of float NumPy arrays.
        metadata: dict of strings.
    """
    header, position = {"__metadata__": metadata}, 0
    for name, array in arrays.items():
        end = position + array.nbytes
        header[name] = {
            "dtype": _NAMES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # Arrays are aligned.
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())


def _as_bfloat16(bits):
    import ml_dtypes

    return bits.view(ml_dtypes.bfloat16)
