"""Training and sampling on several devices give what one device gives."""

import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion import distribution
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.backend import torch_processes
from keras_simple_diffusion.backend import torch_sharding
from keras_simple_diffusion.utils.errors import InputError
from tests.distribution import train_program

PROGRAM = pathlib.Path(__file__).with_name("train_program.py")

BACKEND = keras.config.backend()
ON_JAX = pytest.mark.skipif(BACKEND != "jax", reason="JAX only")
ON_TENSORFLOW = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="TensorFlow only"
)
ON_TORCH = pytest.mark.any_backend(on="torch")
NOT_ON_JAX = pytest.mark.skipif(BACKEND == "jax", reason="not on JAX")


def check_equal(results, expected):
    """Losses and all state to 1e-5, images up to the rounding of a level."""
    assert sorted(results) == sorted(expected)
    for name, value in expected.items():
        if name == "images":
            change = np.abs(value.astype(int) - results[name].astype(int))
            assert change.max() <= 1
        elif name != "share":
            np.testing.assert_allclose(
                results[name], value, rtol=0, atol=1e-5, err_msg=name
            )


@pytest.mark.skipif(BACKEND == "torch", reason="torch has one device here")
def test_devices_that_work_together_are_counted():
    with distribution.distribute("data"):
        assert native.num_devices() == {"jax": 8, "tensorflow": 2}[BACKEND]


@ON_JAX
def test_split_weights_train_and_draw_as_whole_ones(tmp_path):
    expected = train_program.train("tiny", tmp_path / "one", steps=3)
    with distribution.distribute("sharded"):
        results = train_program.train("tiny", tmp_path / "eight", steps=3)
    check_equal(results, expected)
    assert expected["share"] == 1.0
    assert results["share"] < 0.2
    one, eight = (
        ksd.models.DiffusionBackbone.from_preset(str(tmp_path / n / "preset"))
        for n in ("one", "eight")
    )
    for a, b in zip(one.weights, eight.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def run_program(folder, network, strategies, num_devices, num_processes=1):
    flags = os.environ["XLA_FLAGS"].split()
    flags = [f for f in flags if "device_count" not in f]
    flags.append(f"--xla_force_host_platform_device_count={num_devices}")
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for index in range(num_processes):
        command = [sys.executable, PROGRAM, folder, network, strategies]
        if num_processes > 1:
            command += [address, str(num_processes), str(index)]
        processes.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for process in processes:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output[-3000:]
    return {
        strategy: dict(np.load(folder / strategy / "results.npz"))
        for strategy in strategies.split(",")
    }


@pytest.mark.large
@ON_JAX
@pytest.mark.parametrize("network", ["uvit", "unet", "transformer"])
@pytest.mark.parametrize(
    "num_processes, num_devices, strategies",
    [(1, 8, "data,sharded,tensor:4"), (2, 2, "data,sharded,tensor:2,tensor:4")],
    ids=["8 devices", "2 processes x 2 devices"],
)
def test_all_strategies(
    network, num_processes, num_devices, strategies, tmp_path
):
    one = tmp_path / "one"
    expected = run_program(one, network, "none", 1)["none"]
    assert np.median(expected["moved"]) > 5e-4
    several = tmp_path / "several"
    results = run_program(
        several, network, strategies, num_devices, num_processes
    )
    weights = ksd.models.DiffusionBackbone.from_preset(
        str(one / "none" / "preset")
    ).get_weights()
    for strategy, result in results.items():
        check_equal(result, expected)
        if strategy == "data":
            assert result["share"] == 1.0
        else:
            # Tensor parallelism splits the transformer's perceptrons, half of
            # its weights, along one axis of the mesh only.
            splits_less = network == "transformer" and "tensor" in strategy
            limit = (1.8 if splits_less else 1.4) / (
                num_devices * num_processes
            )
            assert result["share"] < limit
        loaded = ksd.models.DiffusionBackbone.from_preset(
            str(several / strategy / "preset")
        ).get_weights()
        for a, b in zip(weights, loaded, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@ON_TORCH
def test_torch_processes_train_as_one(tmp_path):
    expected = train_program.train("accumulated", tmp_path / "one")
    assert np.median(expected["moved"]) > 1e-3
    results = run_program(
        tmp_path / "two", "accumulated", "data,sharded", 1, num_processes=2
    )
    assert results["data"]["share"] == 1.0
    assert results["sharded"]["share"] < 0.6
    for strategy, result in results.items():
        check_equal(result, expected)
        np.testing.assert_allclose(
            result["losses"], expected["losses"], rtol=0, atol=1e-6
        )
        one, two = (
            ksd.models.DiffusionBackbone.from_preset(str(folder / "preset"))
            for folder in (tmp_path / "one", tmp_path / "two" / strategy)
        )
        for a, b in zip(one.weights, two.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@ON_TORCH
@pytest.mark.parametrize(
    "shape, dim",
    [((16, 8), 0), ((8, 16), 1), ((3, 3, 6, 4), 2), ((9, 9), 0), ((5,), 0)],
)
def test_the_part_of_each_process(shape, dim):
    assert torch_sharding.part_of(shape, count=2).dim == dim


@ON_TORCH
@pytest.mark.parametrize(
    "hosts, first",
    [
        ("node7", "node7"),
        ("node[07-09,12],gpu3", "node07"),
        ("a-[3]-ib,a-4-ib", "a-3-ib"),
        ("login,node[1-2]", "login"),
    ],
)
def test_first_host_of_slurm(hosts, first):
    assert torch_processes.first_host(hosts) == first


@ON_TORCH
def test_clusters_are_found_in_the_environment():
    find = torch_processes.find_cluster
    assert find({}) is None
    assert find({"SLURM_NTASKS": "2"}) is None  # `sbatch` without `srun`.
    slurm = {
        "SLURM_STEP_NODELIST": "gpu[04,07]",
        "SLURM_JOB_ID": "4097",
        "SLURM_NTASKS": "16",
        "SLURM_PROCID": "9",
        "SLURM_LOCALID": "1",
    }
    assert find(slurm) == torch_processes.Cluster("gpu04:61441", 16, 9, 1)
    torchrun = {
        "TORCHELASTIC_RUN_ID": "none",
        "WORLD_SIZE": "4",
        "RANK": "3",
        "LOCAL_RANK": "1",
    }
    assert find({**slurm, **torchrun}) == torch_processes.Cluster(None, 4, 3, 1)


@ON_TENSORFLOW
def test_copies_train_as_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    expected = train_program.train("tiny", one, steps=3)
    with distribution.distribute("data") as strategy:
        assert strategy.num_replicas_in_sync == 2
        results = train_program.train("tiny", two, steps=3)
    check_equal(results, expected)


@ON_TENSORFLOW
def test_copies_do_not_accumulate_gradients():
    with distribution.distribute("data"):
        model = ksd.models.DiffusionModel(
            ksd.models.UViTBackbone((4, 4, 1), (8,), (1,), embedding_dim=8)
        )
        model.compile(keras.optimizers.Adam(gradient_accumulation_steps=2))
        with pytest.raises(InputError, match="gradient_accumulation_steps=2"):
            model.train_on_batch(np.zeros((2, 4, 4, 1), "float32"))


@ON_JAX
def test_the_work_of_drawing_is_split():
    import jax

    from keras_simple_diffusion.generation.denoising import Denoiser
    from keras_simple_diffusion.generation.denoising import Network
    from keras_simple_diffusion.generation.programs import SamplingProgram

    def flops_of_a_device():
        backbone = ksd.models.UViTBackbone(
            (8, 8, 3), (16, 64), (0, 1), num_classes=3, embedding_dim=32
        )
        program = SamplingProgram(
            Denoiser(Network(backbone, "v")), ksd.samplers.DDIMSampler()
        )
        rows = {
            "indices": np.arange(16, dtype="int32"),
            "inputs": {"labels": np.zeros(16, "int32")},
            "null_inputs": {"labels": np.full(16, 3, "int32")},
        }
        rows = keras.tree.map_structure(distribution.split_batch, rows)
        shared = {
            "key": np.zeros(2, "int32"),
            "grid": np.array([-3.0, 3.0], "float32"),
            "guidance": {"scale": np.float32(2.0)},
        }

        @jax.jit
        def draw(state, rows, shared):
            mapping = zip(backbone.variables, state, strict=True)
            with keras.StatelessScope(list(mapping)):
                return program(rows, shared)

        state = [variable.value for variable in backbone.variables]
        compiled = draw.lower(state, rows, shared).compile()
        return compiled.cost_analysis()["flops"]

    whole = flops_of_a_device()
    for strategy in ("sharded", "tensor:4"):
        with distribution.distribute(strategy, ksd.models.UViTBackbone):
            part = flops_of_a_device()
        assert part < 1.2 * whole / 8, strategy


@ON_JAX
def test_shares_of_the_batch():
    assert distribution.data_shard() == (0, 1)
    with distribution.distribute("data"):
        assert distribution.data_shard() == (0, 1)
        distribution.check_batch_size(16)
        with pytest.raises(InputError, match="such as 8.*batch_size=12"):
            distribution.check_batch_size(12)
        with pytest.raises(InputError, match="such as 8.*batch_size=3"):
            distribution.check_batch_size(3)
    with distribution.distribute("tensor:4", ksd.models.UNetBackbone):
        distribution.check_batch_size(2)
    assert keras.distribution.distribution() is None


@ON_JAX
def test_rows_that_cannot_be_split_are_left_out():
    rows = {"images": np.arange(45), "labels": np.arange(45) % 3}
    shares, batch_size = distribution.own_share(rows, 16)
    assert len(shares["images"]) == 45 and batch_size == 16
    with distribution.distribute("data"):
        shares, batch_size = distribution.own_share(rows, 16)
        np.testing.assert_array_equal(shares["images"], np.arange(40))
        np.testing.assert_array_equal(shares["labels"], np.arange(40) % 3)
        assert batch_size == 16
        few = {"images": np.arange(7)}
        assert len(distribution.own_share(few, 16)[0]["images"]) == 0


@pytest.mark.parametrize(
    "shape, axes",
    [
        ((16, 8), ("batch", None)),
        ((8, 16), (None, "batch")),
        ((16, 16), (None, "batch")),
        ((9, 9, 8, 7), (None, None, "batch", None)),
        ((9, 9), (None, None)),
        ((16,), (None,)),
        ((), ()),
    ],
)
def test_the_largest_dimension_that_divides_is_split(shape, axes):
    devices = [f"cpu:{i}" for i in range(8)]
    sharded = distribution.FullySharded(devices=devices)
    variable = keras.Variable(keras.ops.zeros(shape))
    assert sharded.get_variable_layout(variable).axes == axes


def test_unknown_strategies():
    for strategy in ("dta", "tensor", "tensor:x", "tensor:0", "data:2"):
        with pytest.raises(InputError, match="'data', 'sharded' or 'tensor:N'"):
            with distribution.distribute(strategy):
                pass


@ON_JAX
def test_groups_that_do_not_fit():
    with pytest.raises(InputError, match="backbone=None"):
        with distribution.distribute("tensor:2"):
            pass
    with pytest.raises(InputError, match="divides .* devices, 8"):
        with distribution.distribute("tensor:3", ksd.models.UViTBackbone):
            pass


@NOT_ON_JAX
def test_strategies_that_this_backend_lacks():
    lacking = {"tensorflow": ("sharded", "tensor:2"), "torch": ("tensor:2",)}
    for strategy in lacking[BACKEND]:
        with pytest.raises(InputError, match="KERAS_BACKEND=jax"):
            with distribution.distribute(strategy):
                pass
    distribution.initialize()
    assert distribution.is_main_process()


@ON_TENSORFLOW
def test_processes_on_tensorflow():
    with pytest.raises(InputError, match="on JAX and PyTorch only"):
        distribution.initialize("127.0.0.1:1234", 2, 0)


@NOT_ON_JAX
def test_a_distribution_that_keras_ignores():
    model = ksd.models.DiffusionModel(
        ksd.models.UViTBackbone((4, 4, 1), (8,), (1,), embedding_dim=8)
    )
    parallel = keras.distribution.DataParallel(devices=["cpu:0"])
    with parallel.scope():
        with pytest.raises(InputError, match="has no effect on"):
            model.compile()


@pytest.mark.parametrize(
    "arguments",
    [
        ("host:1", 2, None),
        (None, 2, 0),
        ("host", 2, 0),
        ("host:x", 2, 0),
        ("host:70000", 2, 0),
        (":1", 2, 0),
        ("host:1", 2, 2),
    ],
)
def test_processes_described_wrongly(arguments):
    with pytest.raises(InputError, match="`coordinator`"):
        distribution.initialize(*arguments)


@ON_JAX
def test_processes_are_connected_before_devices_are_used():
    keras.ops.zeros(1)
    with pytest.raises(InputError, match="before anything uses a device"):
        distribution.initialize()
