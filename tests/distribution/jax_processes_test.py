"""JAX processes that find each other, or say in one line why not."""

import contextlib
import socket
import subprocess
import sys
import threading

import keras
import pytest

from keras_simple_diffusion.backend import jax_processes
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.commands import environment

PROGRAM = """
import sys
import keras_simple_diffusion as ksd
from keras_simple_diffusion.distribution.processes import check_agreement
ksd.distribution.initialize(sys.argv[1], 2, int(sys.argv[2]))
check_agreement("The colors", "same")
try:
    check_agreement("The images of 'photos'", sys.argv[2])
except ksd.utils.errors.InputError as error:
    print(error)
"""

# The vectors of classes are split over both processes.
TRANSFER = """
import sys
import keras_simple_diffusion as ksd
from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.models.transfer import LABELS, copy_weights
from tests.helpers.models import make_model
ksd.distribution.initialize(sys.argv[1], 2, int(sys.argv[2]))
with ksd.distribution.distribute("sharded"):
    for source, target, names in (
        (None, 3, None), (5, 3, None), (3, 3, ["a", "b", "c"])
    ):
        source = make_model(source, class_names=names)
        target = make_model(target, class_names=names)
        copy_weights(source, target)
        ours, theirs = (
            [to_numpy(w) for w in each.backbone.weights if w.path == LABELS]
            for each in (target, source)
        )
        last = theirs[0][-1] if theirs else 0.0
        assert (ours[0][-1] == last).all()
        target.guidance_model = target
print("copied")
"""


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def connection(address):
    """Connect as soon as someone listens there."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(address.split(":"))


@pytest.mark.any_backend
def test_all_wait_for_the_last(address):
    ended = []

    def meet(index):
        jax_processes.meet(address, 3, index)
        ended.append(index)

    threads = [
        threading.Thread(target=meet, args=[index]) for index in (1, 0, 2)
    ]
    for thread in threads[:2]:
        thread.start()
    with connection(address) as stranger:
        stranger.sendall(b"GET / HTTP/1.1")
    assert ended == []
    threads[2].start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == [0, 1, 2]
    # The port is free again, for JAX.
    socket.create_server(("", int(address.split(":")[1]))).close()


@pytest.mark.any_backend
@pytest.mark.parametrize("index, reason", [(0, "missing are 1, 2"), (1, "")])
def test_processes_that_are_missing(index, reason, address, monkeypatch):
    monkeypatch.setattr(jax_processes, "_PATIENCE", 0.3)
    line = f"Process {index} of 3 found no others at {address} .*{reason}"
    with pytest.raises(InputError, match=line):
        jax_processes.meet(address, 3, index)


@pytest.mark.any_backend
def test_a_port_of_another_program(address, monkeypatch):
    monkeypatch.setattr(jax_processes, "_PATIENCE", 0.3)
    with socket.create_server(("", int(address.split(":")[1]))):
        with pytest.raises(InputError, match="taken by another program"):
            jax_processes.meet(address, 2, 0)
        with pytest.raises(InputError, match="found no others"):
            jax_processes.meet(address, 2, 1)


def run_two(program, address):
    """Run a program in two processes, and return the outputs."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, address, str(index)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = []
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        outputs.append(output)
    return outputs


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX only")
def test_processes_that_disagree(address):
    for output in run_two(PROGRAM, address):
        line = (
            "The images of 'photos' are not the same in all processes: those "
        )
        assert line + "of process 1 differ" in output


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX only")
def test_weights_that_are_split_are_copied(address):
    for output in run_two(TRANSFER, address):
        assert "copied" in output
