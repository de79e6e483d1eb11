"""The formats of exported networks, each written by Keras's own exporter."""

import contextlib
import dataclasses
import importlib.util
import logging
import pathlib
import warnings
from collections.abc import Callable

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.export.graphs import signature_of
from keras_simple_diffusion.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported networks.

    Args:
        write: function of a functional `keras.Model`, a path without suffix
            and a precision, which writes the file or files.
        backends: tuple of strings, the backends from which Keras writes it.
        packages: tuple of strings, what writes it and what draws with it.
        precisions: tuple of strings.
        runtime: string, the packages that draw with it.
    """

    write: Callable
    backends: tuple
    packages: tuple
    precisions: tuple
    runtime: str

    def check(self, name, precision):
        """Raise an `InputError` if the format cannot be written here.

        Args:
            name: string, the name of the format.
            precision: string.
        """
        if precision not in self.precisions:
            raise InputError(
                f"The precision of `format={name}` is one of "
                f"{', '.join(self.precisions)}. Received: "
                f"precision={precision}"
            )
        missing = [
            package
            for package in self.packages
            if importlib.util.find_spec(package) is None
        ]
        if missing:
            raise InputError(
                f"Exporting needs {' and '.join(missing)}: run pip install "
                '"keras-simple-diffusion[export]"'
            )
        backend = native.backend_name()
        if backend not in self.backends:
            raise InputError(
                f"Keras does not export such a model as {name} from {backend}. "
                f"The model is the same on {self.backends[0]}: KERAS_BACKEND="
                f"{self.backends[0]} keras-simple-diffusion export ..."
            )


def write_onnx(graph, path, precision):
    """Write a graph as `PATH.onnx`.

    In float16 the weights are stored with half of the bits. They are converted
    when the file is loaded, and all computations remain in float32.

    Args:
        graph: a functional `keras.Model`.
        path: `pathlib.Path` without suffix.
        precision: string, `"float32"` or `"float16"`.
    """
    import onnx

    file = f"{path}.onnx"
    _export(graph, file, "onnx")
    network = onnx.load(file)
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if precision == "float16":
        _store_half(network.graph)
    onnx.save(network, file)


def write_openvino(graph, path, precision):
    """Write a graph as `PATH.xml` and `PATH.bin`, see `write_onnx`.

    In bfloat16 the weights are stored in float16, which rounds them less; the
    precision of computations is chosen when the file is loaded.
    """
    import openvino

    _export(graph, f"{path}.xml", "openvino")
    if precision != "float32":
        network = openvino.Core().read_model(f"{path}.xml")
        draft = path.with_name("half")
        openvino.save_model(network, f"{draft}.xml", compress_to_fp16=True)
        del network  # It reads the weights from the file that is replaced.
        for suffix in (".xml", ".bin"):
            pathlib.Path(f"{draft}{suffix}").replace(f"{path}{suffix}")


def write_saved_model(graph, path, precision):
    """Write a graph as the folder `PATH`, see `write_onnx`."""
    _export(graph, str(path), "tf_saved_model")


FORMATS = {
    "onnx": Format(
        write_onnx,
        ("tensorflow",),
        ("tf2onnx", "onnxruntime"),
        ("float32", "float16"),
        "onnxruntime",
    ),
    "openvino": Format(
        write_openvino,
        ("tensorflow",),
        ("openvino",),
        ("float32", "float16", "bfloat16"),
        "openvino",
    ),
    "saved_model": Format(
        write_saved_model,
        ("tensorflow",),
        ("tensorflow",),
        ("float32",),
        "tensorflow",
    ),
}


def _export(graph, path, name):
    with _quiet():
        graph.export(
            path,
            format=name,
            input_signature=[signature_of(graph)],
            verbose=False,
        )


@contextlib.contextmanager
def _quiet():
    """Context without the warnings and the log of converters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _store_half(graph):
    """Store the matrices and kernels of an ONNX graph in float16."""
    import numpy as np
    from onnx import TensorProto
    from onnx import helper
    from onnx import numpy_helper

    casts = []
    for tensor in graph.initializer:
        is_float = tensor.data_type == TensorProto.FLOAT
        if not is_float or sum(side > 1 for side in tensor.dims) < 2:
            continue
        name = tensor.name
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(
            helper.make_node(
                "Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT
            )
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
